// What configs say of other forms of attention: sizes, linears, defaults and refusals.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "base/error.h"
#include "io/scratch_directory.h"
#include "model/decoder_layout.h"
#include "model/family.h"
#include "model/layer_groups.h"

namespace narrow {
namespace {

Json Qwen() {
  return {{"architectures", Json::array({"Qwen3_5ForCausalLM"})},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 8},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"vocab_size", 128}};
}

Json Deepseek(const char* architecture) {
  Json config = Qwen();
  config["architectures"] = Json::array({architecture});
  config.erase("num_key_value_heads");
  const std::map<std::string, int> sizes = {{"q_lora_rank", 24},
                                            {"kv_lora_rank", 32},
                                            {"qk_nope_head_dim", 8},
                                            {"qk_rope_head_dim", 4},
                                            {"v_head_dim", 6},
                                            {"n_routed_experts", 8},
                                            {"num_experts_per_tok", 2},
                                            {"moe_intermediate_size", 16},
                                            {"n_group", 2},
                                            {"topk_group", 1},
                                            {"index_n_heads", 2},
                                            {"index_head_dim", 8},
                                            {"index_topk", 32}};
  for (const auto& [key, value] : sizes) config[key] = value;
  return config;
}

LayerSpec LayerOf(const Json& config, int64_t layer) {
  const ModelFamily& family = FindModelFamily(config, "config.json");
  return family.layer(family.parse_config(config, "config.json"), layer);
}

void ExpectRefused(Json config, ErrorCode code, const char* member, const Json& value) {
  config[member] = value;
  ExpectError(code, member, [&] { LayerOf(config, 0); });
}

TEST(DeltaNetConfig, EveryFourthLayerAttends) {
  for (int64_t layer = 0; layer < 8; ++layer) {
    const LayerSpec spec = LayerOf(Qwen(), layer);
    const bool attends = layer % 4 == 3;
    EXPECT_EQ(spec.caches(), attends) << layer;
    EXPECT_EQ(spec.attention.As<DeltaNet>() == nullptr, attends);
    EXPECT_EQ(HasGroup(spec, LinearGroup::kDeltaRates), !attends);
    EXPECT_FALSE(FreedomOf(spec).keys || FreedomOf(spec).values);
    if (attends) {
      EXPECT_EQ(GroupOf(spec, LinearGroup::kQueryKeyValue).rows, (2 * 4 + 2 * 2) * 16);
      EXPECT_EQ(spec.attention.rotary->width, 4);
    } else {
      // 16 heads of q and k, 32 of v and the gate, 128 channels each.
      EXPECT_EQ(GroupOf(spec, LinearGroup::kQueryKeyValue).rows, 2 * 16 * 128 + 2 * 32 * 128);
      EXPECT_EQ(spec.Parameter(ParameterRole::kDecayLog),
                fmt::format("model.layers.{}.linear_attn.A_log", layer));
    }
  }
  ExpectRefused(Qwen(), ErrorCode::kCorruptInput, "linear_num_value_heads", 24);
  ExpectRefused(Qwen(), ErrorCode::kUnsupported, "layer_types",
                Json::array({"a", "a", "a", "a", "a", "a", "a", "a"}));
}

TEST(LatentConfig, SizesAndLinears) {
  const Json config = Deepseek("DeepseekV3ForCausalLM");
  const LayerSpec spec = LayerOf(config, 0);
  EXPECT_EQ(GroupOf(spec, LinearGroup::kQueryKeyValue).rows, 24 + 32 + 4);
  EXPECT_EQ(GroupOf(spec, LinearGroup::kQueryFromLatent).rows, 4 * (8 + 4));
  EXPECT_EQ(GroupOf(spec, LinearGroup::kKeyValueFromLatent).rows, 4 * (8 + 6));
  EXPECT_EQ(GroupOf(spec, LinearGroup::kAttentionOutput).columns, 4 * 6);
  EXPECT_EQ(CacheWidthsOf(spec).keys, 32 + 4);
  EXPECT_FALSE(spec.experts.has_value());  // the first three layers are dense
  EXPECT_TRUE(LayerOf(config, 3).experts.has_value());
  ExpectRefused(config, ErrorCode::kUnsupported, "q_lora_rank", nullptr);
  ExpectRefused(config, ErrorCode::kUnsupported, "scoring_func", "softmax");
  ExpectRefused(config, ErrorCode::kCorruptInput, "n_group", 3);
  ExpectRefused(config, ErrorCode::kCorruptInput, "qk_rope_head_dim", 5);
}

TEST(LatentConfig, IndexersStayAsTheyAre) {
  const Json config = Deepseek("GlmMoeDsaForCausalLM");
  const ModelFamily& family = FindModelFamily(config, "config.json");
  const DecoderConfig parsed = family.parse_config(config, "config.json");
  EXPECT_EQ(family.layer(parsed, 0).attention.As<LatentHeads>()->indexer->keys.count, 32);
  const std::set<std::string> kept = LinearsKeptAsStored(family, parsed);
  EXPECT_EQ(std::ssize(kept), 3 * 8);
  EXPECT_TRUE(kept.contains("model.layers.7.self_attn.indexer.weights_proj"));
  ExpectRefused(config, ErrorCode::kUnsupported, "indexer_types", Json::array({"full", "shared"}));
  ExpectRefused(config, ErrorCode::kCorruptInput, "index_head_dim", 2);
}

TEST(Predictors, AreBesideTheDecoder) {
  DecoderConfig config;
  config.layers = 61;
  EXPECT_TRUE(IsPredictor(config, "model.layers.61.embed_tokens.weight"));
  EXPECT_TRUE(IsPredictor(config, "mtp.fc.weight"));
  for (const char* name : {"model.layers.60.input_layernorm.weight", "model.layers.6",
                           "model.layers.x.weight", "model.norm.weight", "mtp"}) {
    EXPECT_FALSE(IsPredictor(config, name)) << name;
  }
}

}  // namespace
}  // namespace narrow
