#include "report/card_metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "io/yaml.h"
#include "report/report_fixture.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::Not;

// The text that ModelCardData(...).to_yaml() of huggingface_hub 2.4 writes for the same data, but
// for quotation marks and base_model_relation; tests/cli/model_card_test.cc asks it.
TEST(CardMetadata, IsWhatTheHubReads) {
  const SourceFacts source = {.name = "org/Tiny", .hub_name = "org/Tiny", .license = "apache-2.0"};
  EXPECT_EQ(RenderCardMetadata(FullReport(), source, "Tiny-FP8"),
            "---\n"
            "base_model: \"org/Tiny\"\n"
            "base_model_relation: quantized\n"
            "license: \"apache-2.0\"\n"
            "library_name: vllm\n"
            "pipeline_tag: text-generation\n"
            "tags:\n"
            "- fp8\n"
            "- vllm\n"
            "model-index:\n"
            "- name: \"Tiny-FP8\"\n"
            "  results:\n"
            "  - task:\n"
            "      type: text-generation\n"
            "    dataset:\n"
            "      name: \"WikiText-2 (raw)\"\n"
            "      type: Salesforce/wikitext\n"
            "      config: wikitext-2-raw-v1\n"
            "      split: test\n"
            "    metrics:\n"
            "    - type: perplexity\n"
            "      name: \"Perplexity as vLLM runs it (wikitext2, 8 windows of 2,048 tokens)\"\n"
            "      value: 20.300000\n"
            "    - type: kl_divergence\n"
            "      name: \"KL divergence from the original, nats per token\"\n"
            "      value: 0.050000\n"
            "    - type: top1_agreement\n"
            "      name: \"Share of tokens whose most probable successor is the original's\"\n"
            "      value: 0.875000\n"
            "---\n");
}

TEST(CardMetadata, NamesTheRevisionOfADataSetOfTheHub) {
  RunReport report = FullReport();
  report.evaluation->source = "Salesforce/wikitext at b08601e";
  EXPECT_THAT(RenderCardMetadata(report, {.name = "Tiny", .hub_name = {}, .license = {}}, "x"),
              HasSubstr("      type: Salesforce/wikitext\n      config: wikitext-2-raw-v1\n"
                        "      split: test\n      revision: \"b08601e\"\n    metrics:"));
  report.evaluation->dataset = "org/text:a:test";
  report.evaluation->source = "org/text at 1234567";
  EXPECT_THAT(RenderCardMetadata(report, {.name = "Tiny", .hub_name = {}, .license = {}}, "x"),
              HasSubstr("      name: \"org/text:a:test\"\n      type: org/text\n"
                        "      revision: \"1234567\"\n"));
}

TEST(CardMetadata, InventsNothing) {
  RunReport report = FullReport();
  report.evaluation.reset();
  EXPECT_EQ(RenderCardMetadata(report, {.name = "Tiny", .hub_name = {}, .license = {}}, "x"),
            "---\nlibrary_name: vllm\npipeline_tag: text-generation\ntags:\n- fp8\n- vllm\n---\n");
  report = FullReport();
  report.evaluation->deployed.kl.mean = std::numeric_limits<double>::quiet_NaN();
  const std::string text =
      RenderCardMetadata(report, {.name = "Tiny", .hub_name = {}, .license = {}}, "x");
  EXPECT_THAT(text, Not(HasSubstr("kl_divergence")));
  EXPECT_THAT(text, HasSubstr("perplexity"));
}

TEST(CardMetadata, NamesAncestorsWithoutARelation) {
  SourceFacts source = {.name = "Tiny",
                        .hub_name = {},
                        .ancestors = {"org/a", "gpt2"},
                        .license = "other",
                        .license_name = "some: 1.0",
                        .license_link = "LICENSE"};
  EXPECT_THAT(RenderCardMetadata(FullReport(), source, "x"),
              HasSubstr("---\nbase_model:\n- \"org/a\"\n- \"gpt2\"\nlicense: \"other\"\n"
                        "license_name: \"some: 1.0\"\nlicense_link: \"LICENSE\"\nlibrary_name:"));
}

TEST(CardMetadata, TextFromOutsideStaysText) {
  RunReport report = FullReport();
  report.evaluation->dataset = "a: b\n---\n\xff.jsonl";
  const std::string text = RenderCardMetadata(report, {.name = "x", .hub_name = {}, .license = {}},
                                              "o\"\n---\nlicense: mit");
  const auto block = FrontMatterOf(text);
  ASSERT_TRUE(block);
  const Json card = ParseYaml(*block, "card");
  EXPECT_FALSE(card.contains("license"));
  EXPECT_EQ(card["model-index"][0]["name"], "o\"\n---\nlicense: mit");
  const Json& dataset = card["model-index"][0]["results"][0]["dataset"];
  EXPECT_EQ(dataset["name"], "a: b\n---\n\xef\xbf\xbd.jsonl");
  EXPECT_EQ(dataset["type"], "json");
}

}  // namespace
}  // namespace narrow
