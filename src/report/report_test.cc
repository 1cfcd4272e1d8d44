#include "report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>
#include <string>
#include <string_view>

#include "io/json.h"
#include "io/output_marker.h"
#include "io/scratch_directory.h"
#include "report/measured_members.h"
#include "report/report_fixture.h"
#include "text/text_format.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::Not;

void AddMembers(const Json& json, std::set<std::string, std::less<>>& members) {
  if (!json.is_structured()) return;
  for (const auto& [name, inner] : json.items()) {
    if (json.is_object()) members.insert(name);
    AddMembers(inner, members);
  }
}

// A member of another name would no longer be left out where two builds are compared.
TEST(MeasuredMembers, AreMembersOfWhatIsWritten) {
  const ScratchDirectory scratch;
  OutputMarker marker;
  marker.command = "quantize";
  WriteOutputMarker(scratch.path(), marker);
  std::set<std::string, std::less<>> members;
  AddMembers(ReadJsonFile((scratch.path() / kMarkerName).string()), members);
  AddMembers(ParseJson(RenderReportJson(FullReport()), "report"), members);
  for (const std::string_view measured : kMeasuredMembers) {
    EXPECT_TRUE(members.contains(measured)) << measured;
  }
}

TEST(ReportJson, HasEveryFieldUnderItsName) {
  const Json expected = ParseJson(R"({
    "command": "narrow quantize --model_dir 'models/Tiny Llama'",
    "version": "0.1.0",
    "model": "Tiny Llama",
    "strategy": {"scheme": "w_fp8_a_fp8", "export_format": "fp8", "kv_cache_dtype": "fp8",
                 "min_kv_scale": 0.0, "weight_merge_groups": null,
                 "excluded_linears": ["lm_head"], "rounding": "gptq", "hessian_block_columns": 0,
                 "head_basis": "none"},
    "calibration": {"dataset": "builtin", "samples": 128, "samples_asked": 128, "empty_documents": 2, "tokens": 46026,
                    "notice": "Small built-in text."},
    "evaluation": {"dataset": "wikitext2", "windows": 8, "window_tokens": 2048, "shortest_window_tokens": 2048, "tokens": 16384,
                   "perplexity": {"original": 20.0, "quantized": 20.3, "deployed": 20.3,
                                  "pseudo": 20.2, "deployed_bf16_attention": 20.25},
                   "kl": {"deployed": 0.05, "pseudo": 0.04, "deployed_bf16_attention": 0.045},
                   "divergence": {
                     "deployed": {"verdict": "loss rises by 0.0150 ± 0.0010 nats per token: perplexity +1.5 %",
                       "nll_increase": {"mean": 0.015, "standard_error": 0.001},
                       "perplexity_change": {"mean": 0.015113064615718978, "standard_error": 0.001015113064615719},
                       "kl": {"mean": 0.05, "standard_error": 0.0005},
                       "kl_median": 0.01, "kl_99": 0.5, "kl_999": 1.5, "kl_maximum": 4.0,
                       "top1_agreement": {"mean": 0.875, "standard_error": 0.01},
                       "top1_in_top5": {"mean": 0.995, "standard_error": 0.001},
                       "top5_overlap": {"mean": 0.75, "standard_error": 0.02},
                       "probability_change": {"mean": -0.0025, "standard_error": 0.0005},
                       "probability_change_rms": 0.03125, "window_nll": [2.75, 3.25],
                       "window_kl": [0.03125, 0.0625]},
                     "pseudo": {"verdict": "loss rises by 0.0150 ± 0.0010 nats per token: perplexity +1.5 %",
                       "nll_increase": {"mean": 0.015, "standard_error": 0.001},
                       "perplexity_change": {"mean": 0.015113064615718978, "standard_error": 0.001015113064615719},
                       "kl": {"mean": 0.04, "standard_error": 0.0005},
                       "kl_median": 0.01, "kl_99": 0.5, "kl_999": 1.5, "kl_maximum": 4.0,
                       "top1_agreement": {"mean": 0.875, "standard_error": 0.01},
                       "top1_in_top5": {"mean": 0.995, "standard_error": 0.001},
                       "top5_overlap": {"mean": 0.75, "standard_error": 0.02},
                       "probability_change": {"mean": -0.0025, "standard_error": 0.0005},
                       "probability_change_rms": 0.03125, "window_nll": [2.75, 3.25],
                       "window_kl": [0.03125, 0.0625]},
                     "deployed_bf16_attention": {"verdict": "loss rises by 0.0150 ± 0.0010 nats per token: perplexity +1.5 %",
                       "nll_increase": {"mean": 0.015, "standard_error": 0.001},
                       "perplexity_change": {"mean": 0.015113064615718978, "standard_error": 0.001015113064615719},
                       "kl": {"mean": 0.045, "standard_error": 0.0005},
                       "kl_median": 0.01, "kl_99": 0.5, "kl_999": 1.5, "kl_maximum": 4.0,
                       "top1_agreement": {"mean": 0.875, "standard_error": 0.01},
                       "top1_in_top5": {"mean": 0.995, "standard_error": 0.001},
                       "top5_overlap": {"mean": 0.75, "standard_error": 0.02},
                       "probability_change": {"mean": -0.0025, "standard_error": 0.0005},
                       "probability_change_rms": 0.03125, "window_nll": [2.75, 3.25],
                       "window_kl": [0.03125, 0.0625]}},
                   "attention": "both",
                   "window_nll": {"original": [2.5, 3.5], "quantized": [2.75, 3.25]},
                   "pseudo_is_deployed": false,
                   "attribution": {"windows": 8, "parts": [
                     {"part": "weights",
                      "kl": {"mean": 0.02, "standard_error": 0.001},
                      "kl_added": {"mean": 0.02, "standard_error": 0.001},
                      "nll_increase": {"mean": 0.01, "standard_error": 0.002},
                      "nll_added": {"mean": 0.01, "standard_error": 0.002}},
                     {"part": "inputs",
                      "kl": {"mean": 0.04, "standard_error": 0.001},
                      "kl_added": {"mean": 0.02, "standard_error": 0.0005},
                      "nll_increase": {"mean": 0.012, "standard_error": 0.002},
                      "nll_added": {"mean": 0.002, "standard_error": 0.001}},
                     {"part": "kv_cache",
                      "kl": {"mean": 0.05, "standard_error": 0.0005},
                      "kl_added": {"mean": 0.01, "standard_error": 0.0004},
                      "nll_increase": {"mean": 0.015, "standard_error": 0.0025},
                      "nll_added": {"mean": 0.003, "standard_error": 0.0015}}]},
                   "worst_tokens": [{"window": 1, "position": 17, "token": " cat",
                                     "context": "the dog and the", "nll_increase": 6.5,
                                     "kl": 4.0}],
                   "notice": null},
    "kept": {"max_kl": 0.06,
             "groups": [{"layer": 0, "linears": ["model.layers.0.mlp.gate_proj",
                                                 "model.layers.0.mlp.up_proj"],
                         "error": 0.25, "share": 0.5, "extra_bytes": 2097152}],
             "extra_bytes": 2097152, "checkpoint_bytes": 20971520, "kl_without": 0.08,
             "kl_predicted": 0.055},
    "seconds": {"total": 61.5, "measuring": 20.0, "calibration": 12.25, "quantization": 3.0, "evaluation": 40.0},
    "peak_rss_bytes": 642000000,
    "compute": {"threads": 2, "dtype": "bfloat16", "cpu_isa": "AVX3_SPR"},
    "warnings": ["one"],
    "weights": [{"name": "a.weight", "amax": 0.875, "scale": 0.001953125, "saturated": 3,
                 "elements": 4096, "layer": 0, "output_error": 1.5, "nearest_output_error": 2.0}],
    "inputs": [{"name": "a", "amax": 448.0, "scale": 1.0, "layer": 0}],
    "kv_cache": [{"name": "model.layers.0.self_attn", "q": {"amax": 28.0, "scale": 0.0625},
                  "k": {"amax": 224.0, "scale": 0.5},
                  "v": {"amax": 112.0, "scale": 0.25}}],
    "layers": [{"elements": 4096, "saturated": 3, "output_error": 1.5,
                "nearest_output_error": 2.0,
                "error": {"all": 0.0625, "share": 1.0,
                          "parts": {"qkv": {"error": 0.03125, "share": 0.5},
                                    "o": {"error": 0.0, "share": 0.0},
                                    "gate_up": {"error": 0.0, "share": 0.0},
                                    "down": {"error": 0.0, "share": 0.0},
                                    "kv_cache": {"error": 0.03125, "share": 0.5}}},
                "seconds": 0.5, "loading_seconds": 0.125,
                "times": {"loading": 0.125, "calibration": 0.25, "quantization": 0.0625,
                          "evaluation": 0.03125, "flops": 4096,
                          "experts": {"loading": 0.0, "calibration": 0.125, "quantization": 0.0,
                                      "evaluation": 0.0, "flops": 1024}},
                "read": {"bytes": 8192, "seconds": 0.0625},
                "written": {"bytes": 4096, "seconds": 0.03125}, "rss_bytes": 640000000}]
  })",
                                  "expected");
  EXPECT_EQ(ParseJson(RenderReportJson(FullReport()), "report").dump(2), expected.dump(2));
}

TEST(ReportJson, NetworksThatAreOneAreShownAsSuch) {
  RunReport report = FullReport();
  report.evaluation->own_scales.reset();
  const auto evaluation = [&] {
    return ParseJson(RenderReportJson(report), "report").at("evaluation");
  };
  EXPECT_EQ(evaluation().at("pseudo_is_deployed"), false);  // it is the one with bf16 attention
  EXPECT_EQ(evaluation().at("perplexity").at("pseudo"), 20.25);
  report.evaluation->bf16_attention.reset();
  report.evaluation->attention.reset();
  EXPECT_FALSE(evaluation().at("perplexity").contains("deployed_bf16_attention"));
  report.kept->max_kl = 0.025;
  const Json json = ParseJson(RenderReportJson(report), "report").at("evaluation");
  EXPECT_EQ(json.at("pseudo_is_deployed"), true);
  EXPECT_EQ(json.at("perplexity").at("pseudo"), 20.3);
  // What a limit makes of it is said of the network that is deployed.
  const Json& divergence = json.at("divergence");
  EXPECT_EQ(divergence.at("pseudo").at("verdict"),
            "loss rises by 0.0150 ± 0.0010 nats per token: perplexity +1.5 %");
  EXPECT_EQ(divergence.at("deployed").at("verdict"),
            "loss rises by 0.0150 ± 0.0010 nats per token: perplexity +1.5 %; the KL 0.0500 is "
            "above --max_kl 0.025");
}

TEST(ReportJson, LayersAddUpTheirLinears) {
  RunReport report = FullReport();
  RunReport::LayerRecord layer = report.layers[0];
  layer.facts.linears.push_back(layer.facts.linears[0]);
  layer.facts.linears[1].output_error = layer.facts.linears[1].nearest_output_error = 0.0;
  layer.facts.linears.push_back(layer.facts.linears[0]);
  layer.facts.linears[2].module = "c";
  layer.facts.errors->groups = {0.0, 0.0, 0.0, 0.125};
  layer.facts.cache.reset();  // no part then, though the sum has it
  report.layers.push_back(layer);
  const Json json = ParseJson(RenderReportJson(report), "report");
  EXPECT_EQ(json.at("layers")[1].at("elements"), 3 * 4096);
  EXPECT_EQ(json.at("layers")[1].at("saturated"), 9);
  EXPECT_EQ(json.at("layers")[1].at("output_error"), 3.0);
  EXPECT_EQ(json.at("layers")[1].at("nearest_output_error"), 4.0);
  ASSERT_EQ(json.at("weights").size(), 4u);
  EXPECT_EQ(json.at("weights")[3].at("name"), "c.weight");
  EXPECT_EQ(json.at("weights")[3].at("layer"), 1);
  EXPECT_EQ(json.at("inputs")[3].at("name"), "c");
  EXPECT_EQ(json.at("kv_cache").size(), 1u);
  // All parts of both layers: 0.0625 and 0.15625.
  const Json& parts = json.at("layers")[1].at("error").at("parts");
  EXPECT_EQ(parts.size(), 4u);
  EXPECT_EQ(parts.at("down").at("share"), 0.125 / 0.21875);
}

TEST(ReportJson, WhatWasNotMeasuredIsNull) {
  RunReport report;
  report.seconds.total = 1.5;
  const Json json = ParseJson(RenderReportJson(report), "report");
  for (const char* key : {"strategy", "calibration", "evaluation", "kept"}) {
    EXPECT_TRUE(json.at(key).is_null()) << key;
  }
  EXPECT_TRUE(json.at("seconds").at("evaluation").is_null());
  EXPECT_EQ(json.at("weights").dump(), "[]");
}

TEST(ReportJson, RoundingToNearestHasNoOutputErrors) {
  RunReport report = FullReport();
  LinearFacts& linear = report.layers[0].facts.linears[0];
  linear.output_error = linear.nearest_output_error = 0.0;
  report.layers[0].times.reset();
  report.layers[0].rss_bytes.reset();
  report.layers[0].facts.errors.reset();
  const Json json = ParseJson(RenderReportJson(report), "report");
  EXPECT_TRUE(json.at("weights")[0].at("output_error").is_null());
  EXPECT_TRUE(json.at("weights")[0].at("nearest_output_error").is_null());
  EXPECT_TRUE(json.at("layers")[0].at("output_error").is_null());
  for (const char* name : {"error", "seconds", "loading_seconds", "times", "read", "written"}) {
    EXPECT_TRUE(json.at("layers")[0].at(name).is_null()) << name;
  }
  EXPECT_TRUE(json.at("layers")[0].at("rss_bytes").is_null());
}

TEST(ReportJson, StaysReadableWithHostileValues) {
  RunReport report = FullReport();
  report.command_line = {"narrow", "bad \xFF utf8", "\n"};
  report.evaluation->deployed.perplexity = std::numeric_limits<double>::infinity();
  const Json json = ParseJson(RenderReportJson(report), "report");
  for (const char* name : {"quantized", "deployed"}) {
    EXPECT_TRUE(json.at("evaluation").at("perplexity").at(name).is_null()) << name;
  }
  EXPECT_THAT(json.at("command").get<std::string>(), HasSubstr("$'\\012'"));
}

TEST(ReportJson, ScalesSurviveToTheLastBit) {
  RunReport report = FullReport();
  const float scale = 3.140625F / 448.0F;
  report.layers[0].facts.linears[0].input_scale = scale;
  const Json json = ParseJson(RenderReportJson(report), "report");
  EXPECT_EQ(json.at("inputs")[0].at("scale").get<float>(), scale);
}

TEST(SummaryTable, ShowsEveryFigure) {
  EXPECT_EQ(RenderSummaryTable(FullReport()), std::string(R"(
+----------------------------+-------------------------------------------------------------------------------------+
| Model                      | Tiny Llama                                                                          |
| Strategy                   | FP8 E4M3 weights and inputs (w_fp8_a_fp8), FP8 KV cache, error-compensated rounding |
| Calibrated on              | builtin, 128 samples, 46,026 tokens                                                 |
| Perplexity, original       | 20.0000                                                                             |
| Perplexity, deployed       | 20.3000 (+1.50 %), as vLLM runs it on most GPUs: FP8 attention                      |
| Perplexity, bf16 attention | 20.2500 (+1.25 %), elsewhere (CPUs, RDNA 3): cache dequantized                      |
| Perplexity, pseudo         | 20.2000 (+1.00 %), comparable with Quark's tables                                   |
| KL from original           | 0.0500 ± 0.0005 nats per token (bf16 attention 0.0450, pseudo 0.0400)               |
| KL by part                 | weights +0.0200, inputs +0.0200, KV cache +0.0100, over 8 windows                   |
| Verdict                    | loss rises by 0.0150 ± 0.0010 nats per token: perplexity +1.5 %                     |
| Measured on                | wikitext2, 8 windows of 2,048 tokens                                                |
| Worst layers               | 0 (100.0 %, q/k/v most)                                                             |
| Kept as they are           | 1 group of linears, 2.00 MiB more (+11.1 %)                                         |
| Limit                      | KL 0.0500 is within --max_kl 0.0600; 0.0800 with all quantized, 0.0550 predicted    |
| Measuring pass             | 20.0 s                                                                              |
| Calibration                | 12.2 s                                                                              |
| Quantization               | 3.00 s                                                                              |
| Evaluation                 | 40.0 s                                                                              |
| Total time                 | 1 min 02 s                                                                          |
| Peak memory                | 612.3 MiB                                                                           |
+----------------------------+-------------------------------------------------------------------------------------+
)")
                                                  .substr(1));
}

TEST(SummaryTable, DoesNotShowOneNetworkTwice) {
  RunReport report = FullReport();
  report.evaluation->own_scales.reset();
  EXPECT_THAT(RenderSummaryTable(report),
              HasSubstr("| Perplexity, pseudo         | that with bf16 attention: scales are"));
  report.evaluation->bf16_attention.reset();
  const std::string table = RenderSummaryTable(report);
  EXPECT_THAT(table, HasSubstr("| Perplexity, pseudo   | the same: scales are shared"));
  EXPECT_THAT(table, HasSubstr("| 0.0500 ± 0.0005 nats per token  "));
}

TEST(SummaryTable, LeavesOutWhatWasNotMeasured) {
  RunReport report = FullReport();
  report.evaluation.reset();
  report.kept.reset();
  report.seconds.measuring.reset();
  report.seconds.evaluation.reset();
  const std::string table = RenderSummaryTable(report);
  EXPECT_THAT(table, HasSubstr("| Perplexity    | not measured "));
  EXPECT_THAT(table, Not(HasSubstr("deployed")));
  EXPECT_THAT(table, Not(HasSubstr("Verdict")));
  EXPECT_THAT(table, Not(HasSubstr("Evaluation")));
  for (const char* absent : {"KL by part", "Kept as", "Limit", "Measuring pass"}) {
    EXPECT_THAT(table, Not(HasSubstr(absent)));
  }
}

TEST(SummaryTable, KeepsItsShapeWithForeignNames) {
  RunReport report = FullReport();
  report.model = "Modèle\n\x1b[31m";
  const std::string table = RenderSummaryTable(report);
  EXPECT_THAT(table, HasSubstr("| Model                      | Modèle??[31m" +
                               std::string(72, ' ') + "|\n"));
}

}  // namespace
}  // namespace narrow
