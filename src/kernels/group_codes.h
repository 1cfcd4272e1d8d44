// Rows of weights to codes of 8 and 4 bits and back, with a scale for each group of columns: the
// part of every quantization scheme that touches every number. What a scale is worked out from and
// how it is stored is quantization/ and formats/.
// SIMD on every target Highway finds at run time; bit-identical to the scalar reference on each.
// All functions run on the calling thread.
// Source of the numerics: compressed-tensors 0.19 and AMD Quark 0.13; OCP OFP8 1.0 (E4M3) and OCP
// Microscaling Formats 1.0 (E2M1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace narrow {

// A row of weights as it is stored: BF16, F16 or F32. Does not own it.
struct WeightRow {
  Dtype dtype = Dtype::kBF16;
  const std::byte* data = nullptr;  // aligned for an element
  int64_t columns = 0;
};

// A row's scales: that of column c is scales[c / group]. `group` is a multiple of 16, or as long as
// the row; the last group of a row may be shorter.
struct GroupScales {
  std::span<const float> scales;
  int64_t group = 0;
};

// What is rounded to a code.
enum class Quotient : uint8_t {
  kStored,   // w / scale, rounded to the type of the weight first: two roundings, as on a CPU
  kExact,    // w / scale in f32: one rounding
  kProduct,  // w * scale in f32: the scale is given as its reciprocal
};

// The sign of a code of magnitude zero.
enum class ZeroSign : uint8_t {
  kKept,      // that of the quotient, -0 too
  kRounded,   // of what was rounded to zero; an exact zero is +0
  kPositive,  // always +
};

struct CodeRule {
  Quotient quotient = Quotient::kStored;
  ZeroSign zero = ZeroSign::kRounded;
};

// The largest magnitude of each group. Infinity and NaN give infinity or NaN.
void FindGroupMaxima(const WeightRow& row, int64_t group, std::span<float> maxima);
// The least number of each group and zero, and the greatest. REQUIRES: the numbers are finite.
void FindGroupRanges(const WeightRow& row, int64_t group, std::span<float> lowest,
                     std::span<float> highest);

// One byte a column. Both saturate (at 448; at -128 and 127) and round to nearest even.
// REQUIRES: the numbers and scales are finite, scales > 0.
void EncodeE4M3(const WeightRow& row, const GroupScales& scales, const CodeRule& rule,
                std::span<std::byte> codes);
void EncodeInt8(const WeightRow& row, const GroupScales& scales, Quotient quotient,
                std::span<std::byte> codes);

// Two columns a byte, the even one in the low bits. REQUIRES: as above; columns and group are
// multiples of 16.
// E2M1: {0, 0.5, 1, 1.5, 2, 3, 4, 6}, bit 3 the sign; saturates, ties to the even code.
void EncodeE2M1(const WeightRow& row, const GroupScales& scales, const CodeRule& rule,
                std::span<std::byte> codes);
// Offset binary: q + 8, q = clamp(w / scale + zero, -8, 7) rounded to nearest even. With kStored
// the sum is rounded to the type of the weight, too. `zeros`: one a group, or none.
void EncodeInt4(const WeightRow& row, const GroupScales& scales, std::span<const float> zeros,
                Quotient quotient, std::span<std::byte> codes);

// The inverse: value = number of the code * scale; of INT4 (q - zero) * scale, in f32.
void DecodeE4M3(std::span<const std::byte> codes, const GroupScales& scales,
                std::span<float> values);
void DecodeInt8(std::span<const std::byte> codes, const GroupScales& scales,
                std::span<float> values);
void DecodeE2M1(std::span<const std::byte> codes, const GroupScales& scales,
                std::span<float> values);
void DecodeInt4(std::span<const std::byte> codes, const GroupScales& scales,
                std::span<const float> zeros, std::span<float> values);

}  // namespace narrow
