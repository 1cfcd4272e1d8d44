#include "kernels/input_rounding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/every_target.h"
#include "tensor/scalar_types.h"

namespace narrow {
namespace {

float NearestE2M1(float q) {
  constexpr float kNumbers[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  const float a = std::fabs(q);
  const int code = (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) +
                   (a >= 3.5f) + (a > 5.0f);
  return std::copysign(kNumbers[code], q);
}

float Reference(float value, float scale, const GridRule& rule) {
  const float q = value / scale;
  switch (rule.numbers) {
    case GridRule::Numbers::kE4M3:
      return ToFloat(ToFloat8E4M3(q)) * scale;
    case GridRule::Numbers::kE2M1:
      return NearestE2M1(q) * scale;
    case GridRule::Numbers::kIntegers:
      break;
  }
  return static_cast<float>(std::lrint(std::clamp(q, rule.lowest, rule.highest))) * scale;
}

TEST(RoundToGrid, LikeTheScalarReference) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 40.0f);
  const std::vector<float> scales = {0.37f, 0x1p-4f, 3.0f, 0x1p-127f, 1.0f, 0.011f, 77.0f};
  for (const auto& [columns, group] : std::vector<std::pair<std::size_t, std::size_t>>{
           {112, 16}, {200, 32}, {77, 77}, {300, 128}}) {
    std::vector<float> row(columns);
    for (float& value : row) {
      value = random() % 3 == 0 ? 0.25f * static_cast<float>(random() % 41) - 5.0f : normal(random);
    }
    row[0] = -0.0f;
    const GroupScales groups{scales, static_cast<int64_t>(group)};
    for (const GridRule& rule :
         {GridRule{GridRule::Numbers::kE4M3}, GridRule{GridRule::Numbers::kE2M1},
          GridRule{GridRule::Numbers::kIntegers},
          GridRule{GridRule::Numbers::kIntegers, -119, 136}}) {
      OnEveryTarget([&] {
        std::vector<float> rounded = row;
        RoundToGrid(rounded, groups, rule);
        for (std::size_t i = 0; i < columns; ++i) {
          const float expected = Reference(row[i], scales[i / group], rule);
          ASSERT_EQ(std::bit_cast<uint32_t>(rounded[i]), std::bit_cast<uint32_t>(expected))
              << row[i] << " / " << scales[i / group];
        }
      });
    }
  }
}

}  // namespace
}  // namespace narrow
