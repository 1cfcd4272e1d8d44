#include "formats/fp8/fp8.h"

#include <gtest/gtest.h>

namespace narrow {
namespace {

// The block a Quark 0.13 checkpoint has in this mode.
constexpr std::string_view kWithKvCache = R"({
  "activation_scheme": "static",
  "export": {
    "kv_cache_group": ["*k_proj", "*v_proj"],
    "min_kv_scale": 0.0,
    "pack_method": "reorder",
    "weight_format": "real_quantized",
    "weight_merge_groups": null
  },
  "ignored_layers": ["lm_head"],
  "kv_cache_scheme": "static",
  "quant_method": "fp8"
})";

QuantizedCheckpointDescription Description(KvCacheQuantization kv_cache) {
  QuantizedCheckpointDescription description;
  description.model_dtype = "bfloat16";
  description.excluded_linears = {"lm_head"};
  description.kv_cache = kv_cache;
  if (kv_cache == KvCacheQuantization::kFp8) description.cache_patterns = {"*k_proj", "*v_proj"};
  return description;
}

TEST(Fp8Format, WritesTheBlockOfQuarkCheckpoints) {
  const Json block = Fp8QuantizationConfig(Description(KvCacheQuantization::kFp8));
  EXPECT_EQ(block.dump(), ParseJson(kWithKvCache, "expected").dump());
}

TEST(Fp8Format, WithoutKvCacheHasNoSchemeAndNoGroup) {
  Json expected = ParseJson(kWithKvCache, "expected");
  expected["kv_cache_scheme"] = nullptr;
  expected["export"]["kv_cache_group"] = Json::array();
  EXPECT_EQ(Fp8QuantizationConfig(Description(KvCacheQuantization::kNone)).dump(), expected.dump());
}

TEST(Fp8Format, RecordsMergeGroupsAndLeastKvScale) {
  QuantizedCheckpointDescription description = Description(KvCacheQuantization::kFp8);
  description.weight_merge_groups = {{"*up_proj", "*gate_proj"}, {"*q_proj", "*k_proj", "*v_proj"}};
  description.min_kv_scale = 0.25;
  const Json block = Fp8QuantizationConfig(description).at("export");
  EXPECT_EQ(block.at("weight_merge_groups").dump(),
            R"([["*up_proj","*gate_proj"],["*q_proj","*k_proj","*v_proj"]])");
  EXPECT_EQ(block.at("min_kv_scale"), 0.25);
}

TEST(Fp8Format, AttentionScalesBelongToTheAttentionModule) {
  const AttentionModule attention{"model.layers.7.self_attn", "model.layers.7.self_attn.q_proj",
                                  "model.layers.7.self_attn.k_proj",
                                  "model.layers.7.self_attn.v_proj"};
  const AttentionScaleTensors tensors = Fp8AttentionScaleTensors(attention);
  EXPECT_EQ(tensors.query_scale.name, "model.layers.7.self_attn.q_scale");
  EXPECT_EQ(tensors.key_scale.name, "model.layers.7.self_attn.k_scale");
  EXPECT_EQ(tensors.value_scale.name, "model.layers.7.self_attn.v_scale");
}

}  // namespace
}  // namespace narrow
