// Integer arithmetic for numbers that come from files: overflow is an answer, not undefined.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace narrow {

// a * b, or nothing when either is negative or the product exceeds int64.
inline std::optional<int64_t> CheckedMultiply(int64_t a, int64_t b) {
  int64_t product = 0;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// a + b, or nothing when either is negative or the sum exceeds int64.
inline std::optional<int64_t> CheckedAdd(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

// Product of all dimensions (1 for none), or nothing on a negative dimension or overflow.
inline std::optional<int64_t> CheckedProduct(std::span<const int64_t> dimensions) {
  std::optional<int64_t> product = 1;
  for (const int64_t dimension : dimensions) {
    product = CheckedMultiply(*product, dimension);
    if (!product) return std::nullopt;
  }
  return product;
}

// Rounded-up division. REQUIRES: a >= 0, b > 0.
constexpr int64_t DivideRoundUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Smallest multiple of b that is >= a. REQUIRES: a >= 0, b > 0.
constexpr int64_t RoundUp(int64_t a, int64_t b) { return DivideRoundUp(a, b) * b; }

}  // namespace narrow
