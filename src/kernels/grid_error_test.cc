#include "kernels/grid_error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/every_target.h"

namespace narrow {
namespace {

// To the nearest number with four significant bits, in f64, ties to even.
double RoundToFourBits(double x) {
  if (x == 0.0) return 0.0;
  const int exponent = std::ilogb(x);
  return std::ldexp(std::nearbyint(std::ldexp(x, 3 - exponent)), exponent - 3);
}

struct Sums {
  explicit Sums(int64_t columns) : errors(kGridPhases * columns), squares(kGridPhases * columns) {
    std::ranges::fill(errors.span(), 0.0f);
    std::ranges::fill(squares.span(), 0.0f);
  }
  GridErrorSums views() {
    const int64_t columns = errors.size() / kGridPhases;
    return {{errors.data(), kGridPhases, columns}, {squares.data(), kGridPhases, columns}};
  }
  AlignedBuffer<float> errors, squares;
};

struct Case {
  int64_t rows, columns;
};

template <typename T>
T From(float value) {
  if constexpr (std::is_same_v<T, float>) {
    return value;
  } else {
    return ToBfloat16(value);
  }
}
double AsDouble(float value) { return value; }
double AsDouble(Bfloat16 value) { return ToFloat(value); }

// Sums in two calls against f64, over values of many magnitudes.
template <typename T>
void ExpectSumsOfF64(const Case& size) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal;
  std::vector<T> x;
  for (int64_t i = 0; i < size.rows * size.columns; ++i) {
    x.push_back(From<T>(normal(generator) * std::exp(4.0f * normal(generator))));
  }
  const auto count = static_cast<std::size_t>(kGridPhases * size.columns);
  std::vector<double> errors(count), squares(count);
  const auto columns = static_cast<std::size_t>(size.columns);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t c = i % columns;
    const double value = AsDouble(x[i]);
    for (int64_t p = 0; p < kGridPhases; ++p) {
      const double scaled = static_cast<float>(value) * GridPhaseFactor(p);
      const double error = (RoundToFourBits(scaled) - scaled) / GridPhaseFactor(p);
      errors[static_cast<std::size_t>(p) * columns + c] += error;
      squares[static_cast<std::size_t>(p) * columns + c] += error * error;
    }
  }
  OnEveryTarget([&] {
    Sums sums(size.columns);
    const MatrixView<const T> all(x.data(), size.rows, size.columns);
    const int64_t first = size.rows / 3;
    AddGridErrors<T>(all.RowBlock(0, first), sums.views());
    AddGridErrors<T>(all.RowBlock(first, size.rows - first), sums.views());
    for (std::size_t i = 0; i < count; ++i) {
      const double bound = std::sqrt(squares[i] * static_cast<double>(size.rows));
      ASSERT_NEAR(sums.errors[static_cast<int64_t>(i)], errors[i], 1e-5 * bound + 1e-30) << i;
      ASSERT_NEAR(sums.squares[static_cast<int64_t>(i)], squares[i], 1e-4 * squares[i] + 1e-30)
          << i;
    }
  });
}

TEST(GridErrorTest, SumsMatchF64OnEveryTarget) {
  for (const Case size : {Case{40, 64}, Case{7, 67}, Case{3, 5}}) {
    ExpectSumsOfF64<float>(size);
    ExpectSumsOfF64<Bfloat16>(size);
  }
}

TEST(GridErrorTest, ANumberOnTheGridOfAPhaseHasNoErrorThere) {
  const int64_t phase = kGridPhases - 2;
  const float on_grid = 13.0f / GridPhaseFactor(phase);  // 13 = 1.101b * 8
  OnEveryTarget([&] {
    Sums sums(1);
    AddGridErrors<float>({&on_grid, 1, 1}, sums.views());
    EXPECT_LT(sums.squares[phase], 1e-12f);
    for (int64_t p = 0; p < kGridPhases; ++p) EXPECT_GE(sums.squares[p], sums.squares[phase]) << p;
  });
}

}  // namespace
}  // namespace narrow
