#include "export/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "export/report_fixture.h"
#include "export/text_format.h"
#include "io/json.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(ReportJson, HasEveryFieldUnderItsName) {
  const Json expected = ParseJson(R"({
    "command": "narrow quantize --model_dir 'models/Tiny Llama'",
    "version": "0.1.0",
    "model": "Tiny Llama",
    "strategy": {"scheme": "w_fp8_a_fp8", "export_format": "fp8", "kv_cache_dtype": "fp8",
                 "min_kv_scale": 0.0, "weight_merge_groups": null,
                 "excluded_linears": ["lm_head"]},
    "calibration": {"dataset": "builtin", "samples": 128, "tokens": 46026,
                    "notice": "Small built-in text."},
    "evaluation": {"dataset": "wikitext2", "windows": 8, "window_tokens": 2048, "tokens": 16384,
                   "perplexity": {"original": 20.0, "quantized": 20.3},
                   "window_nll": {"original": [2.5, 3.5], "quantized": [2.75, 3.25]},
                   "notice": null},
    "seconds": {"total": 61.5, "calibration": 12.25, "quantization": 3.0, "evaluation": 40.0},
    "peak_rss_bytes": 642000000,
    "compute": {"threads": 2, "dtype": "bfloat16", "cpu_isa": "AVX3_SPR"},
    "warnings": ["one"],
    "weights": [{"name": "a.weight", "amax": 0.875, "scale": 0.001953125, "saturated": 3,
                 "elements": 4096}],
    "inputs": [{"name": "a", "amax": 448.0, "scale": 1.0}],
    "kv_cache": [{"name": "model.layers.0.self_attn", "k": {"amax": 224.0, "scale": 0.5},
                  "v": {"amax": 112.0, "scale": 0.25}}]
  })",
                                  "expected");
  EXPECT_EQ(ParseJson(RenderReportJson(FullReport()), "report").dump(2), expected.dump(2));
}

TEST(ReportJson, WhatWasNotMeasuredIsNull) {
  RunReport report;
  report.seconds.total = 1.5;
  const Json json = ParseJson(RenderReportJson(report), "report");
  for (const char* key : {"strategy", "calibration", "evaluation"}) {
    EXPECT_TRUE(json.at(key).is_null()) << key;
  }
  EXPECT_TRUE(json.at("seconds").at("evaluation").is_null());
  EXPECT_EQ(json.at("weights").dump(), "[]");
}

TEST(ReportJson, StaysReadableWithHostileValues) {
  RunReport report = FullReport();
  report.command_line = {"narrow", "bad \xFF utf8", "\n"};
  report.evaluation->perplexity.quantized = std::numeric_limits<double>::infinity();
  const Json json = ParseJson(RenderReportJson(report), "report");
  EXPECT_TRUE(json.at("evaluation").at("perplexity").at("quantized").is_null());
  EXPECT_THAT(json.at("command").get<std::string>(), HasSubstr("$'\\012'"));
}

TEST(ReportJson, ScalesSurviveToTheLastBit) {
  RunReport report = FullReport();
  const float scale = 3.140625F / 448.0F;
  report.inputs[0].range.scale = scale;
  const Json json = ParseJson(RenderReportJson(report), "report");
  EXPECT_EQ(json.at("inputs")[0].at("scale").get<float>(), scale);
}

TEST(SummaryTable, ShowsEveryFigure) {
  EXPECT_EQ(
      RenderSummaryTable(FullReport()),
      "+-----------------------+---------------------------------------------------------+\n"
      "| Model                 | Tiny Llama                                              |\n"
      "| Strategy              | FP8 E4M3 weights and inputs (w_fp8_a_fp8), FP8 KV cache |\n"
      "| Calibrated on         | builtin, 128 samples, 46,026 tokens                     |\n"
      "| Perplexity, original  | 20.0000                                                 |\n"
      "| Perplexity, quantized | 20.3000                                                 |\n"
      "| Change                | +1.50 %                                                 |\n"
      "| Measured on           | wikitext2, 8 windows of 2,048 tokens                    |\n"
      "| Calibration           | 12.2 s                                                  |\n"
      "| Quantization          | 3.00 s                                                  |\n"
      "| Evaluation            | 40.0 s                                                  |\n"
      "| Total time            | 1 min 02 s                                              |\n"
      "| Peak memory           | 612.3 MiB                                               |\n"
      "+-----------------------+---------------------------------------------------------+\n");
}

TEST(SummaryTable, LeavesOutWhatWasNotMeasured) {
  RunReport report = FullReport();
  report.evaluation.reset();
  report.seconds.evaluation.reset();
  const std::string table = RenderSummaryTable(report);
  EXPECT_THAT(table, HasSubstr("| Perplexity    | not measured "));
  EXPECT_THAT(table, Not(HasSubstr("Change")));
  EXPECT_THAT(table, Not(HasSubstr("Evaluation")));
}

TEST(SummaryTable, KeepsItsShapeWithForeignNames) {
  RunReport report = FullReport();
  report.model = "Modèle\n\x1b[31m";
  const std::string table = RenderSummaryTable(report);
  EXPECT_THAT(table,
              HasSubstr("| Model                 | Modèle??[31m" + std::string(44, ' ') + "|\n"));
}

}  // namespace
}  // namespace narrow
