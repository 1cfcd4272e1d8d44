// What a quantized layer becomes when it is deployed against what vLLM's own loader makes of the
// same checkpoint (tests/golden/deployed, made by tools/goldens/make_references.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "device/operations.h"
#include "kernels/float8.h"
#include "kernels/products_test.h"
#include "model/model_source.h"
#include "model/reference.h"
#include "quantization/layer_view.h"
#include "tests/build_paths.h"

namespace narrow {
namespace {

// The fused linear that holds a group in vLLM, below its layer.
std::string FusedName(const LayerSpec& spec, LinearGroup group) {
  const std::string layer = spec.attention_module.substr(0, spec.attention_module.rfind('.') + 1);
  switch (group) {
    case LinearGroup::kQueryKeyValue:
      return layer + "self_attn.qkv_proj";
    case LinearGroup::kAttentionOutput:
      return layer + "self_attn.o_proj";
    case LinearGroup::kGateUp:
      return layer + "mlp.gate_up_proj";
    case LinearGroup::kDown:
      return layer + "mlp.down_proj";
    default:
      break;
  }
  return "";
}

std::vector<uint8_t> FromHex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// The codes of a group's rows, one linear after the other.
std::vector<uint8_t> CodesOf(const PackedWeights& packed) {
  std::vector<uint8_t> codes;
  for (int64_t panel = 0; panel < packed.panel_count(); ++panel) {
    const int64_t rows = std::min(packed.panel_rows(), packed.rows() - panel * packed.panel_rows());
    OperandBuffer memory;
    const Operands numbers = memory.Reserve(packed.type(), rows, packed.columns());
    packed.UnpackPanel(panel, numbers);
    std::vector<float> floats(static_cast<std::size_t>(rows * packed.columns()));
    ToFloats(numbers, {floats.data(), rows, packed.columns()});
    for (const float number : floats) codes.push_back(ToFloat8E4M3(number).bits);
  }
  return codes;
}

template <typename T>
class DeployedLayer : public TestWithProducts<T> {};
using OperandTypes = testing::Types<float, Bfloat16>;
TYPED_TEST_SUITE(DeployedLayer, OperandTypes);

TYPED_TEST(DeployedLayer, IsWhatTheLoaderOfVllmMakes) {
  const Json reference = ReadReference("deployed.json");
  const ModelSource source =
      OpenModel(NARROW_SOURCE_DIR "/tests/golden/deployed", WeightState::kQuantizedToo);
  int64_t changed = 0;
  for (int64_t i = 0; i < source.config.layers; ++i) {
    LoadedLayer layer(OpenLayer(*source.checkpoint, SourceSchemes(*source.checkpoint),
                                source.family->layer(source.config, i), int64_t{1} << 30),
                      kComputeTypeOf<TypeParam>);
    std::array<std::vector<uint8_t>, kLinearGroupCount> stored;
    for (const LinearGroup group : kLinearGroups) {
      stored[static_cast<std::size_t>(group)] = CodesOf(layer.runnable().Linear(group).weights());
    }
    Become(layer, {.weights = LayerView::Weights::kDeployed});
    for (const LinearGroup group : kLinearGroups) {
      const std::string name = FusedName(layer.spec(), group);
      const Json& expected = reference["linears"].at(name);
      const std::vector<uint8_t> codes = CodesOf(layer.runnable().Linear(group).weights());
      EXPECT_EQ(codes, FromHex(expected["codes"])) << name;
      changed += codes != stored[static_cast<std::size_t>(group)];
      const std::optional<LinearScales>& made = layer.runnable().Linear(group).scales();
      ASSERT_TRUE(made.has_value()) << name;
      EXPECT_EQ(made->input.values.scale, expected["input_scale"].template get<float>()) << name;
      for (std::size_t linear = 0; linear < layer.Linears(group).size(); ++linear) {
        EXPECT_EQ(made->weights[linear], expected["weight_scale"].template get<float>()) << name;
      }
    }
  }
  EXPECT_EQ(changed, 4);  // q/k/v and gate/up of both layers: the test saw something happen
}

TEST(DeployedCode, IsWhatVllmMakesOfEachCode) {
  const Json reference = ReadReference("deployed_codes.json");
  const std::vector<uint8_t> codes = FromHex(reference["codes"]);
  for (const Json& example : reference["cases"]) {
    const auto scale = example["scale"].get<float>(), group = example["group_scale"].get<float>();
    const std::vector<uint8_t> expected = FromHex(example["codes"]);
    ASSERT_EQ(expected.size(), codes.size());
    for (std::size_t i = 0; i < codes.size(); ++i) {
      EXPECT_EQ(DeployedCode({codes[i]}, scale, group).bits, expected[i])
          << "code " << int{codes[i]} << ", scale " << scale << " of " << group;
    }
  }
}

}  // namespace
}  // namespace narrow
