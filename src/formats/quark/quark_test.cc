#include "formats/quark/quark.h"

#include <gtest/gtest.h>

#include <string>

namespace narrow {
namespace {

// A Quark 0.13 checkpoint's block, with SPEC and so on standing for the text below.
constexpr std::string_view kTemplate = R"({
  "algo_config": null,
  "exclude": ["lm_head"],
  "export": { "kv_cache_group": ["*k_proj","*v_proj"], "min_kv_scale": 0.0,
              "pack_method": "reorder", "weight_format": "real_quantized",
              "weight_merge_groups": null },
  "global_quant_config": { "bias": null, "input_tensors": SPEC, "output_tensors": null,
                           "target_device": null, "weight": SPEC },
  "kv_cache_post_rope": false,
  "kv_cache_quant_config": { "*k_proj": LAYER, "*v_proj": LAYER },
  "layer_quant_config":    { "*k_proj": LAYER, "*v_proj": LAYER },
  "layer_type_quant_config": {},
  "quant_method": "quark",
  "quant_mode": "eager_mode",
  "softmax_quant_spec": null,
  "version": "0.13"
})";
constexpr std::string_view kLayer = R"({ "bias": null, "input_tensors": SPEC,
  "output_tensors": OUTPUTS, "target_device": null, "weight": SPEC })";
constexpr std::string_view kSpec = R"({ "block_size": null, "ch_axis": null, "dtype": "fp8_e4m3",
  "enable_buffer_reuse": false, "group_size": null, "is_dynamic": false, "is_scale_quant": false,
  "max_input_numel": 4194304, "mx_element_dtype": null, "observer_cls": "PerTensorMinMaxObserver",
  "qscheme": "per_tensor", "round_method": "half_even", "scale_calculation_mode": null,
  "scale_format": null, "scale_type": "float", "symmetric": true, "zero_point_type": "int32" })";

std::string Replace(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

Json Expected() {
  const std::string outputs = Replace(std::string(kSpec), R"("float")", "null");
  std::string text = Replace(std::string(kTemplate), "LAYER", kLayer);
  text = Replace(Replace(text, "OUTPUTS", outputs), "SPEC", kSpec);
  return ParseJson(text, "expected");
}

QuantizedCheckpointDescription Description(KvCacheQuantization kv_cache) {
  QuantizedCheckpointDescription description;
  description.excluded_linears = {"lm_head"};
  description.kv_cache = kv_cache;
  if (kv_cache == KvCacheQuantization::kFp8) description.cache_patterns = {"*k_proj", "*v_proj"};
  return description;
}

TEST(QuarkFormat, WritesTheBlockOfQuarkCheckpoints) {
  EXPECT_EQ(QuarkQuantizationConfig(Description(KvCacheQuantization::kFp8)).dump(),
            Expected().dump());
}

TEST(QuarkFormat, WithoutKvCacheHasEmptyGroupsOfTheTypesLoadersAskFor) {
  Json expected = Expected();
  expected["export"]["kv_cache_group"] = Json::array();
  expected["kv_cache_quant_config"] = Json::object();
  expected["layer_quant_config"] = Json::object();
  EXPECT_EQ(QuarkQuantizationConfig(Description(KvCacheQuantization::kNone)).dump(),
            expected.dump());
}

TEST(QuarkFormat, AttentionScalesBelongToTheProjections) {
  const AttentionModule attention{"model.layers.7.self_attn", "model.layers.7.self_attn.q_proj",
                                  "model.layers.7.self_attn.k_proj",
                                  "model.layers.7.self_attn.v_proj"};
  const AttentionScaleTensors tensors = QuarkAttentionScaleTensors(attention);
  EXPECT_EQ(tensors.query_scale.name, "model.layers.7.self_attn.q_proj.output_scale");
  EXPECT_EQ(tensors.key_scale.name, "model.layers.7.self_attn.k_proj.output_scale");
  EXPECT_EQ(tensors.value_scale.name, "model.layers.7.self_attn.v_proj.output_scale");
}

}  // namespace
}  // namespace narrow
