#include "formats/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "formats/config.h"

namespace narrow {
namespace {

ErrorCode CodeOf(std::string_view name, std::string* message) {
  try {
    FindExportFormat(name);
  } catch (const Error& error) {
    *message = error.what();
    return error.code();
  }
  return ErrorCode::kInternal;
}

TEST(ExportRegistry, FindsEveryRowAndTheDefault) {
  std::set<std::string_view> names;
  for (const ExportFormat& format : ExportFormats()) {
    EXPECT_TRUE(names.insert(format.name).second) << format.name;
    EXPECT_EQ(&FindExportFormat(format.name), &format);
    EXPECT_FALSE(format.summary.empty());
  }
  EXPECT_EQ(FindExportFormat(kDefaultExportFormat).name, "fp8");
}

TEST(ExportRegistry, RefusesOtherNamesAndListsTheKnownOnes) {
  std::string message;
  EXPECT_EQ(CodeOf("awq", &message), ErrorCode::kUnsupported);
  EXPECT_THAT(message, testing::HasSubstr("fp8, quark"));
  EXPECT_EQ(CodeOf("fp4", &message), ErrorCode::kInvalidArgument);
  EXPECT_THAT(message,
              testing::AllOf(testing::HasSubstr("'fp4'"), testing::HasSubstr("fp8, quark")));
  EXPECT_EQ(CodeOf("", &message), ErrorCode::kInvalidArgument);
}

// The rules every loader has for a per-tensor FP8 linear, whatever the format calls its config.
TEST(ExportContract, LinearsHaveAnFp8WeightAndTwoF32Scalars) {
  const QuantizedLinear linear{"model.layers.3.mlp.down_proj", 576, 1536};
  for (const ExportFormat& format : ExportFormats()) {
    const LinearTensors tensors = format.linear_tensors(linear);
    EXPECT_EQ(tensors.weight.name, "model.layers.3.mlp.down_proj.weight");
    EXPECT_EQ(tensors.weight.dtype, Dtype::kF8E4M3);
    EXPECT_EQ(tensors.weight.shape, (Shape{576, 1536}));
    EXPECT_EQ(tensors.weight_scale.name, "model.layers.3.mlp.down_proj.weight_scale");
    EXPECT_EQ(tensors.input_scale.name, "model.layers.3.mlp.down_proj.input_scale");
    for (const TensorSpec* scale : {&tensors.weight_scale, &tensors.input_scale}) {
      EXPECT_EQ(scale->dtype, Dtype::kF32);
      EXPECT_TRUE(scale->shape.empty());
    }
  }
}

TEST(ExportContract, AttentionScalesAreDistinctF32Scalars) {
  const AttentionModule attention{"model.layers.0.self_attn", "model.layers.0.self_attn.q_proj",
                                  "model.layers.0.self_attn.k_proj",
                                  "model.layers.0.self_attn.v_proj"};
  for (const ExportFormat& format : ExportFormats()) {
    const AttentionScaleTensors tensors = format.attention_scale_tensors(attention);
    EXPECT_NE(tensors.key_scale.name, tensors.value_scale.name);
    EXPECT_NE(tensors.key_scale.name, tensors.query_scale.name);
    EXPECT_NE(tensors.value_scale.name, tensors.query_scale.name);
    for (const TensorSpec* scale :
         {&tensors.query_scale, &tensors.key_scale, &tensors.value_scale}) {
      EXPECT_TRUE(scale->name.starts_with("model.layers.0.self_attn."));
      EXPECT_EQ(scale->dtype, Dtype::kF32);
      EXPECT_TRUE(scale->shape.empty());
    }
  }
}

TEST(ExportContract, ExcludedLinearsAreListedUnderFullNames) {
  QuantizedCheckpointDescription description;
  description.excluded_linears = {"lm_head", "model.layers.0.mlp.down_proj"};
  for (const ExportFormat& format : ExportFormats()) {
    const Json block = format.quantization_config(description);
    const char* key = block.contains("exclude") ? "exclude" : "ignored_layers";
    EXPECT_EQ(block.at(key).dump(), R"(["lm_head","model.layers.0.mlp.down_proj"])");
    EXPECT_EQ(block.at("export").at("kv_cache_group").dump(), "[]");
  }
}

}  // namespace
}  // namespace narrow
