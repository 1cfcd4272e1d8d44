#include "schemes/input_rounding.h"

#include <array>
#include <vector>

#include "base/checked_math.h"
#include "base/error.h"
#include "kernels/input_rounding.h"
#include "schemes/block_scales.h"

namespace narrow {
namespace {

GridRule RuleOf(const TensorScheme& scheme, float zero) {
  switch (scheme.code) {
    case Code::kE4M3:
      return {GridRule::Numbers::kE4M3};
    case Code::kE2M1:
      return {GridRule::Numbers::kE2M1};
    case Code::kInt8:
      return {GridRule::Numbers::kIntegers, -128.0f - zero, 127.0f - zero};
    case Code::kInt4:
      break;
  }
  return {GridRule::Numbers::kIntegers, -8.0f - zero, 7.0f - zero};
}

// The scale of a group made while serving: amax / 448, or amax / 127 as vLLM's kernels have it.
float DynamicScale(Code code, float amax) {
  if (amax == 0.0f) return 1.0f;
  return amax / (code == Code::kE4M3 ? 448.0f : code == Code::kInt8 ? 127.0f : 7.0f);
}

}  // namespace

void RoundInput(const TensorScheme& scheme, const StaticInput& input, std::span<float> row) {
  const GridRule rule = RuleOf(scheme, input.zero);
  const auto columns = static_cast<int64_t>(row.size());
  if (columns == 0) return;
  if (scheme.timing == Timing::kStatic) {
    const std::array scales = {input.scale};
    return RoundToGrid(row, {scales, columns}, rule);
  }
  const int64_t group = scheme.block.columns == 0 ? columns : scheme.block.columns;
  const auto groups = static_cast<std::size_t>(DivideRoundUp(columns, group));
  std::vector<float> maxima(groups), scales(groups);
  FindGroupMaxima({Dtype::kF32, reinterpret_cast<const std::byte*>(row.data()), columns}, group,
                  maxima);
  switch (scheme.scale) {
    case ScaleFormat::kFloat:
      for (std::size_t g = 0; g < groups; ++g) scales[g] = DynamicScale(scheme.code, maxima[g]);
      break;
    case ScaleFormat::kPowerOfTwo:
      for (std::size_t g = 0; g < groups; ++g) {
        scales[g] = MakePowerOfTwoScale(Dtype::kF32, scheme.code, {}, maxima[g]).divisor;
      }
      break;
    case ScaleFormat::kE4M3WithGlobal: {
      std::vector<std::byte> codes(groups);
      MakeTwoLevelScales(Dtype::kF32, input.global, maxima, codes, scales);
      break;
    }
  }
  RoundToGrid(row, {scales, group}, rule);
}

}  // namespace narrow
