// What the configs of Gemma, StarCoder2, StableLM, Nemotron and Cohere mean where members are
// absent (transformers' defaults), and what is refused.
#include <gtest/gtest.h>

#include "base/error.h"
#include "io/scratch_directory.h"
#include "model/family.h"
#include "model/wrapper.h"

namespace narrow {
namespace {

Json Minimal(const char* architecture) {
  return {{"architectures", Json::array({architecture})},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 12},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"vocab_size", 128}};
}

DecoderConfig Parse(const Json& config) {
  return FindModelFamily(config, "config.json").parse_config(config, "config.json");
}

LayerSpec LayerOf(const Json& config, int64_t layer) {
  const ModelFamily& family = FindModelFamily(config, "config.json");
  return family.layer(family.parse_config(config, "config.json"), layer);
}

void ExpectRefused(Json config, const char* member, const Json& value, const char* fragment) {
  config[member] = value;
  ExpectError(ErrorCode::kUnsupported, fragment, [&] { Parse(config); });
}

TEST(GemmaConfig, DefaultsOfEachGeneration) {
  const Json second = Minimal("Gemma2ForCausalLM");
  EXPECT_EQ(LayerOf(second, 0).attention.scores.window, 4096);
  EXPECT_EQ(LayerOf(second, 1).attention.scores.window, 0);
  EXPECT_EQ(LayerOf(second, 0).attention.scores.softcap, 50.0f);
  EXPECT_EQ(LayerOf(second, 0).attention.scores.scale, 1.0f / 16);
  EXPECT_EQ(Parse(second).logit_softcap, 30.0f);
  EXPECT_EQ(Parse(second).lm_head, DecoderConfig::LmHead::kTied);
  const Json third = Minimal("Gemma3ForCausalLM");
  for (int64_t layer = 0; layer < 12; ++layer) {
    const LayerSpec spec = LayerOf(third, layer);
    const bool global = layer % 6 == 5;
    EXPECT_EQ(spec.attention.scores.window, global ? 0 : 4096) << layer;
    EXPECT_EQ(spec.attention.rotary->frequencies.theta, global ? 1e6 : 1e4) << layer;
    EXPECT_EQ(spec.attention.scores.softcap, 0.0f);
  }
  EXPECT_EQ(Parse(third).logit_softcap, 0.0f);
  EXPECT_EQ(Parse(third).embedding_scale, 8.0f);
  EXPECT_EQ(LayerOf(Minimal("GemmaForCausalLM"), 0).attention.scores.window, 0);
}

TEST(GemmaConfig, RotationsOfBothSpellings) {
  Json older = Minimal("Gemma3ForCausalLM");
  older["rope_theta"] = 2e6;
  older["rope_local_base_freq"] = 2e4;
  older["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8.0}};
  Json newer = Minimal("Gemma3ForCausalLM");
  newer["rope_parameters"] = {
      {"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 2e6}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 2e4}}}};
  for (const int64_t layer : {0, 5}) {
    EXPECT_EQ(*LayerOf(older, layer).attention.rotary, *LayerOf(newer, layer).attention.rotary);
  }
  EXPECT_EQ(LayerOf(newer, 5).attention.rotary->frequencies.factor, 8.0);
  EXPECT_EQ(LayerOf(newer, 0).attention.rotary->frequencies.theta, 2e4);
}

TEST(GemmaConfig, Refusals) {
  const Json third = Minimal("Gemma3ForCausalLM");
  ExpectRefused(third, "use_bidirectional_attention", true, "encoder");
  ExpectRefused(third, "hidden_activation", "silu", "gelu_pytorch_tanh");
  ExpectRefused(third, "sliding_window", nullptr, "sliding_window");
  Json types = third;
  types["layer_types"] = Json::array({"full_attention"});
  ExpectError(ErrorCode::kCorruptInput, "layer_types", [&] { Parse(types); });
  ExpectRefused(third, "layer_types", Json(std::vector<std::string>(12, "chunked_attention")),
                "chunked_attention");
  Json legacy = Minimal("GemmaForCausalLM");
  legacy["hidden_act"] = "gelu";
  EXPECT_EQ(Parse(legacy).activation, Activation::kGeluTanh);
}

TEST(OtherConfigs, DefaultsAndRefusals) {
  const DecoderConfig starcoder = Parse(Minimal("Starcoder2ForCausalLM"));
  EXPECT_EQ(starcoder.mlp_bias, Bias::kPresent);
  EXPECT_EQ(starcoder.window(3), 0);
  EXPECT_EQ(LayerOf(Minimal("NemotronForCausalLM"), 0).attention.rotary->width, 8);
  const Json cohere = Minimal("CohereForCausalLM");
  EXPECT_EQ(Parse(cohere).logit_scale, 0.0625f);
  EXPECT_FALSE(LayerOf(cohere, 0).Norm(NormPlace::kQuery));
  Json normed = cohere;
  normed["use_qk_norm"] = true;
  EXPECT_EQ(ShapeOf(*LayerOf(normed, 0).Norm(NormPlace::kQuery)), (Shape{4, 16}));
  EXPECT_EQ(ShapeOf(*LayerOf(normed, 0).Norm(NormPlace::kKey)), (Shape{2, 16}));
  const Json second = Minimal("Cohere2ForCausalLM");
  EXPECT_TRUE(LayerOf(second, 2).attention.rotary.has_value());
  EXPECT_FALSE(LayerOf(second, 3).attention.rotary.has_value());
  EXPECT_EQ(LayerOf(second, 3).attention.scores.window, 0);
}

TEST(OtherConfigs, StableLm) {
  const Json config = Minimal("StableLmForCausalLM");
  EXPECT_EQ(LayerOf(config, 0).attention.rotary->width, 4);
  EXPECT_EQ(Parse(config).query_key_value_bias, Bias::kNone);
  EXPECT_EQ(Parse(config).norm_epsilon, 1e-5f);
  EXPECT_FALSE(LayerOf(config, 0).Norm(NormPlace::kBeforeMlp)->bias.empty());
  Json biased = config;
  biased["use_qkv_bias"] = true;
  for (const LinearSpec& linear : LayerOf(biased, 0).linears) {
    const bool read = linear.group == LinearGroup::kQueryKeyValue;
    EXPECT_EQ(linear.bias, read ? Bias::kPresent : Bias::kNone) << linear.module;
  }
  ExpectRefused(config, "qk_layernorm", true, "qk_layernorm");
  ExpectRefused(config, "use_parallel_residual", true, "use_parallel_residual");
}

TEST(LanguagePart, IsThatOfItsConfigOrTheConfig) {
  EXPECT_FALSE(LanguagePart(Minimal("LlamaForCausalLM"), "c").has_value());
  Json wrapped = {{"architectures", Json::array({"Gemma3ForConditionalGeneration"})},
                  {"torch_dtype", "bfloat16"},
                  {"text_config", Minimal("Gemma3ForCausalLM")}};
  wrapped["text_config"]["model_type"] = "gemma3_text";
  const std::optional<Json> text = LanguagePart(wrapped, "c");
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(FindModelFamily(*text, "c").architecture, "Gemma3ForCausalLM");
  EXPECT_EQ((*text)["torch_dtype"], "bfloat16");
  ExpectError(ErrorCode::kCorruptInput, "no embedding of the language part",
              [] { LanguageNames([](const std::string&) { return false; }, "m"); });
}

}  // namespace
}  // namespace narrow
