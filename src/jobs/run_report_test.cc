#include "jobs/run_report.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "io/json.h"

namespace narrow {
namespace {

// Bytes as Llama's vocabularies spell them: id b + 1 is byte b; 0 is <unk>.
Tokenizer ByteTokenizer() {
  Json vocabulary = Json::object();
  vocabulary["<unk>"] = 0;
  for (int byte = 0; byte < 256; ++byte) vocabulary[fmt::format("<0x{:02X}>", byte)] = byte + 1;
  Json json;
  json["model"] = {{"type", "BPE"},
                   {"vocab", vocabulary},
                   {"merges", Json::array()},
                   {"byte_fallback", true},
                   {"unk_token", "<unk>"}};
  json["decoder"] = {{"type", "ByteFallback"}};
  return Tokenizer::FromJson(json.dump(), "test");
}

TokenStream Bytes(std::initializer_list<std::string_view> texts) {
  TokenStream stream;
  for (const std::string_view text : texts) {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c) + 1);
    stream.Append(ids);
  }
  return stream;
}

TEST(HurtTokens, ComeWithTheTextBeforeThem) {
  const Tokenizer tokenizer = ByteTokenizer();
  const TokenStream stream = Bytes({"something else", "abcdefghijklmnopqrst"});
  const RunReport::WorstToken worst = DescribeHurtToken({1, 14, 2.5, 1.25}, stream, &tokenizer);
  EXPECT_EQ(worst.outcome.window, 1);
  EXPECT_EQ(worst.position(), 15);  // outcome 14 is the prediction of token 15
  EXPECT_EQ(worst.token, "p");
  EXPECT_EQ(worst.context, "defghijklmno");
  EXPECT_EQ(worst.outcome.nll_increase, 2.5);
  EXPECT_EQ(worst.outcome.kl, 1.25);
}

TEST(HurtTokens, ContextStaysInItsWindow) {
  const Tokenizer tokenizer = ByteTokenizer();
  const RunReport::WorstToken worst =
      DescribeHurtToken({1, 0, 1, 1}, Bytes({"before", "xyz"}), &tokenizer);
  EXPECT_EQ(worst.context, "x");
  EXPECT_EQ(worst.token, "y");
}

TEST(HurtTokens, PartsOfCharactersAreReadable) {
  const TokenStream stream = Bytes({"é = 12345678\xC3\xA9"});
  const Tokenizer tokenizer = ByteTokenizer();
  EXPECT_EQ(DescribeHurtToken({0, 11, 1, 1}, stream, &tokenizer).token, "8");
  const RunReport::WorstToken half = DescribeHurtToken({0, 13, 1, 1}, stream, &tokenizer);
  EXPECT_EQ(half.token, "<0xA9>");
  EXPECT_EQ(half.context, " = 12345678<0xC3>");
  EXPECT_EQ(DescribeHurtToken({0, 12, 1, 1}, stream, &tokenizer).context, "<0xA9> = 12345678");
}

TEST(HurtTokens, MustLieInTheText) {
  const TokenStream stream = Bytes({"abc"});
  EXPECT_THROW(DescribeHurtToken({1, 0, 1, 1}, stream, nullptr), Error);
  EXPECT_THROW(DescribeHurtToken({0, 2, 1, 1}, stream, nullptr), Error);
}

TEST(HurtTokens, AreIdsWithoutATokenizer) {
  TokenStream stream;
  stream.Append(std::vector<int32_t>{7, 1234, 5});
  const RunReport::WorstToken worst = DescribeHurtToken({0, 1, 1, 1}, stream, nullptr);
  EXPECT_EQ(worst.token, "5");
  EXPECT_EQ(worst.context, "7 1234 ");
}

DivergenceSummary Summary(double perplexity) {
  DivergenceSummary summary;
  summary.original_perplexity = 20;
  summary.perplexity = perplexity;
  summary.original_window_nll = {3.0, 3.1};
  summary.window_nll = {3.2, 3.3};
  summary.nll_increase = {0.2, 0.001};
  summary.kl = {perplexity / 1000, 0.002};
  summary.worst = {{0, 0, 4.0, 2.0}};
  return summary;
}

TEST(FillEvaluation, PseudoIsDeployedWhereThePassHasNone) {
  const Tokenizer tokenizer = ByteTokenizer();
  TokenizedText text;
  text.dataset = "some text";
  text.stream = Bytes({"abc", "def"});
  PassResult result;
  result.stored_window_nll = {3.0, 3.1};
  result.deployed = Summary(21);
  RunReport report;
  FillEvaluation(std::nullopt, text, &tokenizer, result, report);
  EXPECT_FALSE(report.evaluation->own_scales);
  EXPECT_EQ(report.evaluation->pseudo().perplexity, 21);
  EXPECT_EQ(report.evaluation->deployed.original_perplexity, 20);
  ASSERT_EQ(report.evaluation->worst_tokens.size(), 1u);
  EXPECT_EQ(report.evaluation->worst_tokens[0].token, "b");
  EXPECT_THAT(DeployedVerdict(report), testing::HasSubstr("loss rises by 0.2000"));

  result.pseudo = Summary(20.5);
  FillEvaluation(std::nullopt, text, &tokenizer, result, report);
  ASSERT_TRUE(report.evaluation->own_scales);
  EXPECT_EQ(report.evaluation->pseudo().perplexity, 20.5);
  EXPECT_EQ(report.evaluation->pseudo().kl.mean, 0.0205);
  EXPECT_EQ(report.evaluation->deployed.kl.mean, 0.021);
  EXPECT_FALSE(report.evaluation->attention);
  EXPECT_EQ(report.evaluation->dequantized(), nullptr);

  result.deployed_bf16_attention = Summary(20.7);
  FillEvaluation(AttentionFigures::kBoth, text, &tokenizer, result, report);
  EXPECT_EQ(report.evaluation->attention, AttentionFigures::kBoth);
  EXPECT_EQ(report.evaluation->dequantized()->perplexity, 20.7);
}

TEST(FillLayers, PlacesTheMeasuresOfAContinuedRun) {
  PassResult result;
  for (int i = 0; i < 3; ++i) {
    LinearFacts linear;
    linear.module = fmt::format("of layer {}", i);
    result.layers.emplace_back().linears = {linear};
  }
  result.layer_times = {{0.5, 0.125, {100, 0.25}, {50, 0.0625}},
                        {0.25, 0, {}, {}}};  // layers 1 and 2
  result.layer_rss_bytes = {1000, 2000};
  RunReport report;
  FillLayers(result, report);
  ASSERT_EQ(report.layers.size(), 3u);
  EXPECT_FALSE(report.layers[0].times);
  EXPECT_FALSE(report.layers[0].rss_bytes);
  ASSERT_TRUE(report.layers[1].times);
  EXPECT_EQ(report.layers[1].times->loading_seconds, 0.125);
  EXPECT_EQ(report.layers[1].times->written.seconds, 0.0625);
  EXPECT_EQ(report.layers[2].times->seconds, 0.25);
  EXPECT_EQ(report.layers[2].rss_bytes, 2000);
  EXPECT_EQ(report.layers[2].facts.linears[0].module, "of layer 2");
}

TEST(FillKept, AKlThatIsLowEnoughKeepsNothing) {
  RunReport report;
  FillKept({0, 0.05}, std::nullopt, 1000, report);
  EXPECT_EQ(report.kept->max_kl, 0.05);
  EXPECT_TRUE(report.kept->choice.groups.empty());
  EXPECT_EQ(report.kept->checkpoint_bytes, 1000);
  EXPECT_FALSE(report.seconds.measuring);
  KeptGroups kept;
  kept.groups = {{1, LinearGroup::kDown, {"down"}, 8, 0.5, 0.25}};
  kept.seconds = 12;
  FillKept({1, std::nullopt}, kept, 1000, report);
  EXPECT_EQ(report.kept->choice.groups[0].layer, 1);
  EXPECT_EQ(report.kept->choice.extra_bytes(), 8);
  EXPECT_EQ(report.seconds.measuring, 12);
}

}  // namespace
}  // namespace narrow
