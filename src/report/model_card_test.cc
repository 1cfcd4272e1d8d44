#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "report/report.h"
#include "report/report_fixture.h"
#include "report/report_html.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const SourceFacts kSource = {
    .name = "Tiny", .hub_name = {}, .license = "apache-2.0", .license_file = "LICENSE"};

TEST(ModelCard, HasItsSectionsInOrder) {
  const std::string card = RenderModelCard(FullReport(), kSource, "Tiny-FP8");
  EXPECT_THAT(card, StartsWith("---\nlicense: \"apache-2.0\"\nlibrary_name: vllm\n"));
  EXPECT_THAT(card, HasSubstr("\n---\n\n# Tiny-FP8\n"));
  std::size_t previous = 0;
  for (const char* section : {"## Introduction\n", "## Quantization Strategy\n", "## Quick Start\n",
                              "## Deployment\n", "## Evaluation\n", "## License\n"}) {
    const std::size_t at = card.find(section);
    ASSERT_NE(at, std::string::npos) << section;
    EXPECT_GT(at, previous) << section;
    previous = at;
  }
}

TEST(ModelCard, SaysWhatWasDone) {
  const std::string card = RenderModelCard(FullReport(), kSource, "Tiny-FP8");
  EXPECT_THAT(card, HasSubstr("```sh\nnarrow quantize --model_dir 'models/Tiny Llama'\n```"));
  EXPECT_THAT(card, HasSubstr("```sh\nvllm serve Tiny-FP8 --kv-cache-dtype fp8\n```"));
  EXPECT_THAT(card, HasSubstr("own scales for K and V"));
  EXPECT_THAT(card, HasSubstr("these linear layers: lm_head\n"));
  EXPECT_THAT(card, HasSubstr("- Calibration: builtin, 128 samples, 46,026 tokens\n\n"
                              "> Small built-in text.\n"));
  EXPECT_THAT(card, HasSubstr("applies: apache-2.0. Its text is in [LICENSE](LICENSE).\n"));
}

TEST(ModelCard, LeadsWithTheDeployedFigures) {
  const std::string card = RenderModelCard(FullReport(), kSource, "Tiny-FP8");
  EXPECT_THAT(
      card,
      HasSubstr("| wikitext2, 8 windows of 2,048 tokens | Original | As vLLM runs it "
                "(deployed) | With bf16 attention | Pseudo-quantized |\n|---|---|---|---|---|\n"
                "| Perplexity | 20.0000 | 20.3000 (+1.50 %) | 20.2500 (+1.25 %) | 20.2000 "
                "(+1.00 %) |\n"));
  EXPECT_THAT(card, HasSubstr("| | 0.0150 ± 0.0010 | 0.0150 ± 0.0010 | 0.0150 ± 0.0010 |\n"));
  EXPECT_THAT(card, HasSubstr("| | 0.0500 ± 0.0005 | 0.0450 ± 0.0005 | 0.0400 ± 0.0005 |\n"));
  EXPECT_THAT(card, HasSubstr("| Same most probable token | | 87.50 % | 87.50 % | 87.50 % |\n"));
  EXPECT_THAT(card, HasSubstr("\nVerdict, as deployed: loss rises by 0.0150"));
  EXPECT_THAT(card, HasSubstr("comparable with Quark's tables"));
  EXPECT_THAT(card, Not(HasSubstr("one network")));
  RunReport shared = FullReport();
  shared.evaluation->own_scales.reset();
  EXPECT_THAT(card, HasSubstr("Deployed is with attention in FP8, queries and probabilities too"));
  EXPECT_THAT(RenderModelCard(shared, kSource, "x"), HasSubstr("those two are one network"));
  shared.evaluation->bf16_attention.reset();
  shared.evaluation->attention.reset();
  EXPECT_THAT(RenderModelCard(shared, kSource, "x"), HasSubstr("the two are one network"));
  EXPECT_THAT(RenderModelCard(shared, kSource, "x"), Not(HasSubstr("attention in FP8")));
}

TEST(ModelCard, SaysWhenCompensationIsLostAtLoad) {
  const auto card = [](const char* rounding, std::optional<WeightMergeGroups> groups) {
    RunReport report = FullReport();
    report.strategy->rounding = rounding;
    report.strategy->weight_merge_groups = std::move(groups);
    return RenderModelCard(report, kSource, "Tiny-FP8");
  };
  const auto lost = HasSubstr("most of the gain of compensated rounding is lost");
  EXPECT_THAT(card("gptq", std::nullopt), lost);
  EXPECT_THAT(card("gptq", std::nullopt), HasSubstr("leave out --no_weight_matrix_merge\n"));
  EXPECT_THAT(card("gptq", WeightMergeGroups{{"*up_proj", "*gate_proj"}}), Not(lost));
  EXPECT_THAT(card("none", std::nullopt), Not(lost));
  EXPECT_THAT(card("none", std::nullopt), HasSubstr("- Rounding of weights: to nearest\n"));
}

TEST(ModelCard, HasNoFiguresThatWereNotMeasured) {
  RunReport report = FullReport();
  report.evaluation.reset();
  report.calibration->notice.reset();
  report.strategy->kv_cache = KvCacheQuantization::kNone;
  const std::string card =
      RenderModelCard(report, {.name = "Tiny", .hub_name = {}, .license = {}}, "out");
  EXPECT_THAT(card, HasSubstr("## Evaluation\n\nNo evaluation was made in this run.\n"));
  EXPECT_THAT(card, HasSubstr("vllm serve out\n"));
  EXPECT_THAT(card, HasSubstr("- KV cache: not quantized\n"));
  EXPECT_THAT(card, Not(HasSubstr("--kv-cache-dtype")));
  EXPECT_THAT(card, Not(HasSubstr("license:")));
  EXPECT_THAT(card, HasSubstr("does not name it"));
  EXPECT_THAT(card, Not(HasSubstr("20.0000")));
}

TEST(ModelCard, ForeignTextStaysText) {
  RunReport report = FullReport();
  report.command_line = {"narrow", "````", "\n## Evil"};
  report.evaluation->dataset = "a|b<script>";
  const std::string card =
      RenderModelCard(report, {.name = "x\n# Evil", .hub_name = {}, .license = {}}, "o\n# Evil");
  EXPECT_THAT(card, HasSubstr("\n`````sh\nnarrow '````' $'\\012## Evil'\n`````\n"));
  EXPECT_THAT(card, HasSubstr("| a\\|b\\<script\\>, 8 windows"));
  EXPECT_THAT(card, Not(HasSubstr("\n# Evil")));
}

TEST(ModelCard, SaysThatAdaptersDoNotFitFittedHeads) {
  RunReport report = FullReport();
  for (const char* basis : {"fitted", "none"}) {
    report.strategy->head_basis = basis;
    const bool fitted = basis == std::string_view("fitted");
    for (const std::string& text :
         {RenderModelCard(report, kSource, "out"), RenderReportHtml(report)}) {
      EXPECT_EQ(text.find("LoRA adapter") != std::string::npos, fitted) << text;
      EXPECT_EQ(text.find("silently wrong") != std::string::npos, fitted);
    }
  }
  EXPECT_EQ(DescribeAdapters(report), "");
  report.strategy->head_basis = "fitted";
  EXPECT_THAT(DescribeAdapters(report), HasSubstr("--head_basis none"));
}

TEST(ModelCard, NeedsAStrategy) {
  RunReport report = FullReport();
  report.strategy.reset();
  EXPECT_THROW(RenderModelCard(report, kSource, "out"), Error);
}

}  // namespace
}  // namespace narrow
