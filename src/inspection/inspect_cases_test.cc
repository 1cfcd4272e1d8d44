// What is wrong with a checkpoint, one thing at a time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <ostream>

#include "inspection/inspected_model.h"

namespace narrow {
namespace {

using namespace inspected;
using testing::Contains;
using testing::HasSubstr;

struct Case {
  const char* name;
  std::function<void(Model&)> change;
  const char* problem;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

const Case kCases[] = {
    {"MissingWeightScale", [](Model& m) { m.Remove(kQ + ".weight_scale"); },
     "error: FP8 weight \"model.layers.0.self_attn.q_proj.weight\" has no weight_scale"},
    {"MissingInputScale", [](Model& m) { m.Remove(kQ + ".input_scale"); },
     "error: FP8 weight \"model.layers.0.self_attn.q_proj.weight\" has no input_scale"},
    {"ZeroScale", [](Model& m) { m.scales[kQ + ".weight_scale"] = 0; },
     "q_proj.weight_scale\" is 0"},
    {"NegativeScale", [](Model& m) { m.scales[kQ + ".input_scale"] = -1; }, "is -1, expected"},
    {"NanScale", [](Model& m) { m.scales[kQ + ".input_scale"] = std::nanf(""); }, "is nan"},
    {"InfiniteScale",
     [](Model& m) {
       m.scales["model.layers.1.self_attn.k_scale"] = std::numeric_limits<float>::infinity();
     },
     "is inf"},
    {"VectorScale", [](Model& m) { m.Put(kQ + ".weight_scale", Dtype::kF32, {8}); },
     "has 8 elements"},
    {"IntegerScale", [](Model& m) { m.Put(kQ + ".weight_scale", Dtype::kI32, {}); },
     "expected a floating type"},
    {"ScaleWithoutFp8", [](Model& m) { m.PutScale("model.norm.weight_scale", 1); },
     "belongs to no F8_E4M3"},
    {"NoKvScales",
     [](Model& m) {
       for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
         m.Remove(layer + "self_attn.k_scale");
         m.Remove(layer + "self_attn.v_scale");
       }
     },
     "error: model.layers.1.self_attn has no K and V scales although the configuration promises"},
    {"KWithoutV", [](Model& m) { m.Remove("model.layers.0.self_attn.v_scale"); },
     "error: model.layers.0.self_attn has a K scale but no V scale"},
    {"KvScalesInOneLayer",
     [](Model& m) {
       m.quantization()["kv_cache_scheme"] = nullptr;
       m.Remove("model.layers.0.self_attn.k_scale");
       m.Remove("model.layers.0.self_attn.v_scale");
     },
     "although other layers do"},
    {"OldKvScale", [](Model& m) { m.PutScale("model.layers.0.self_attn.kv_scale", 1); },
     "warning: model.layers.0.self_attn.kv_scale is deprecated"},
    {"TwoScalesForK", [](Model& m) { m.PutScale("model.layers.0.self_attn.kv_scale", 1); },
     "error: model.layers.0.self_attn has a kv_scale and another scale for K"},
    {"MissingTensor", [](Model& m) { m.Remove("model.norm.weight"); },
     "error: tensor model.norm.weight is missing"},
    {"MissingHead", [](Model& m) { m.Remove("lm_head.weight"); }, "lm_head.weight is missing"},
    {"WrongShape", [](Model& m) { m.Put("model.norm.weight", Dtype::kBF16, {9}); },
     "error: tensor model.norm.weight has shape [9], config.json makes it [8]"},
    {"UnknownTensor",
     [](Model& m) { m.Put("model.layers.0.self_attn.q_norm.weight", Dtype::kBF16, {8}); },
     "error: unknown tensor \"model.layers.0.self_attn.q_norm.weight\""},
    {"LayerTooMany",
     [](Model& m) {
       m.Put("model.layers.2.mlp.up_proj.weight", Dtype::kBF16, {12, 8});
     },
     "error: unknown tensor \"model.layers.2.mlp.up_proj.weight\""},
    {"ScalingFactor", [](Model& m) { m.PutScale(kQ + ".weights_scaling_factor", 1); },
     "error: unknown tensor"},
    {"UnpromisedBias", [](Model& m) { m.Put(kQ + ".bias", Dtype::kBF16, {8}); },
     "warning: tensor \"model.layers.0.self_attn.q_proj.bias\" is ignored by vLLM"},
    {"MissingBias", [](Model& m) { m.config["mlp_bias"] = true; },
     "error: tensor model.layers.0.mlp.gate_proj.bias is missing"},
    {"NoScheme", [](Model& m) { m.quantization().erase("activation_scheme"); },
     "error: quantization_config: activation_scheme is missing"},
    {"OddScheme", [](Model& m) { m.quantization()["activation_scheme"] = "weird"; },
     "activation_scheme is \"weird\""},
    {"BlockSize",
     [](Model& m) {
       m.quantization()["weight_block_size"] = {128, 128};
     },
     "is FP8 per tensor, but the configuration says FP8 in blocks of 128 x 128"},
    {"Glob", [](Model& m) { m.quantization()["ignored_layers"].push_back("*.gate"); },
     "warning: quantization_config: ignored_layers holds the pattern \"*.gate\""},
    {"IgnoredNotStrings", [](Model& m) { m.quantization()["ignored_layers"].push_back(1); },
     "not a string"},
    {"IgnoredUnknown",
     [](Model& m) { m.quantization()["ignored_layers"].push_back("model.layers.9.mlp.up_proj"); },
     "warning: \"model.layers.9.mlp.up_proj\" is listed as unquantized, but"},
    {"PartlyIgnored", [](Model& m) { m.quantization()["ignored_layers"].push_back(kQ); },
     "error: model.layers.0.self_attn.qkv_proj: 1 of 3 parts are listed"},
    {"IgnoredFp8",
     [](Model& m) {
       m.quantization()["ignored_layers"].push_back("model.layers.0.mlp.gate_up_proj");
     },
     "error: model.layers.0.mlp.up_proj is FP8, but the configuration lists it"},
    {"UnlistedBf16",
     [](Model& m) {
       m.Put("model.layers.0.mlp.down_proj.weight", Dtype::kBF16, {8, 12});
       m.Remove("model.layers.0.mlp.down_proj.weight_scale");
       m.Remove("model.layers.0.mlp.down_proj.input_scale");
     },
     "error: model.layers.0.mlp.down_proj is BF16, but the configuration does not list it"},
    {"Fp8Head",
     [](Model& m) {
       m.Put("lm_head.weight", Dtype::kF8E4M3, {16, 8});
     },
     "lm_head is FP8"},
    {"E5M2",
     [](Model& m) {
       m.Put(kQ + ".weight", Dtype::kF8E5M2, {8, 8});
     },
     "is F8_E5M2"},
    {"NoQuantizationConfig", [](Model& m) { m.config.erase("quantization_config"); },
     "but config.json has no quantization_config"},
    {"QuarkWithoutExport",
     [](Model& m) {
       m.config["quantization_config"] = {{"quant_method", "quark"}};
     },
     "error: quantization_config: export is missing"},
    {"ManyLayers", [](Model& m) { m.config["num_hidden_layers"] = int64_t{1} << 30; },
     "expected 1 to 4096"},
    {"NoHiddenSize", [](Model& m) { m.config.erase("hidden_size"); }, "\"hidden_size\" is missing"},
    {"NoHeads", [](Model& m) { m.config["num_attention_heads"] = 0; },
     "num_attention_heads\" is 0"},
    {"OtherFamily", [](Model& m) { m.config["model_type"] = "mamba"; },
     "warning: not a model family this build knows"},
    {"ConfigOfAnotherType", [](Model& m) { m.config["quantization_config"] = 7; },
     "\"quantization_config\" should be an object"},
    {"ModelTypeOfAnotherType", [](Model& m) { m.config["model_type"] = 7; },
     "\"model_type\" should be a string"},
    {"OtherMethod",
     [](Model& m) {
       m.config["quantization_config"] = {{"quant_method", "awq"}};
     },
     "warning: quant_method \"awq\" is not checked"},
};

class InspectCases : public testing::TestWithParam<Case> {};

TEST_P(InspectCases, AreFound) {
  Model model = GoodModel();
  GetParam().change(model);
  EXPECT_THAT(Problems(model), Contains(HasSubstr(GetParam().problem)));
}

INSTANTIATE_TEST_SUITE_P(Inspect, InspectCases, testing::ValuesIn(kCases),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace narrow
