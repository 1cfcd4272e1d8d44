// A weight matrix to its codes and scales, rounded to nearest, band of rows by band of rows.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "schemes/tensor_scheme.h"
#include "schemes/weight_rule.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace narrow {

// The sizes of what a weight [rows, columns] becomes; all row-major. E2M1 and INT4 codes are two a
// byte, the even column in the low bits.
struct EncodedSizes {
  int64_t row_bytes = 0;   // of codes
  int64_t scale_rows = 0;  // scales are [scale_rows, scale_columns]
  int64_t scale_columns = 0;
  int64_t scale_bytes = 0;  // of one scale
  int64_t zero_rows = 0;    // zero points: I32 [zero_rows, scale_columns], row 8k + j of the weight
                            // in bits 4j .. 4j + 3 of word k, as z + 8; 0 rows: none
};

// The scales of a band as numbers.
struct CodeGrid {
  int64_t block_rows = 1;  // rows of the band that share a row of scales
  int64_t group = 0;       // columns that share a scale
  int64_t groups = 0;      // of a row
  // A code stands for scale * (number of the code - zero): [rows of scales, groups].
  std::vector<float> scales;
  std::vector<float> zeros;  // or none
  // The part of it that is not the same for all of a row, which products can be multiplied by;
  // empty: 1.
  std::vector<float> inner;
};

// A matrix of one scheme. Once its search is set immutable; computes with all threads.
class WeightEncoder {
 public:
  // `name` is for messages. REQUIRES: no SizeProblem; `type` is BF16, F16 or F32.
  WeightEncoder(std::string name, const TensorScheme& scheme, const WeightRule& rule, Dtype type,
                int64_t rows, int64_t columns);

  // From now on the scale of a group is, of some around that of its range, the one of the least
  // squared error, in which that of column c counts weights[c] times; with no weights that of its
  // range. REQUIRES: blocks are of one row.
  void SearchScales(std::span<const float> weights);

  const EncodedSizes& sizes() const { return sizes_; }
  // Bands begin at multiples of this.
  int64_t band_rows() const;
  // Whether the largest magnitude of the whole matrix (of all matrices that share a scale) has to
  // be known before the first code.
  bool NeedsMaximum() const;
  // The largest magnitude of rows in storage order. Throws: kNumeric for NaN and infinity.
  float Maximum(std::span<const std::byte> weights) const;

  // Bytes of a band, and where they lie in the whole matrix's.
  struct BandSizes {
    int64_t codes = 0, scales = 0, zeros = 0;
    int64_t codes_at = 0, scales_at = 0, zeros_at = 0;
  };
  BandSizes SizesOfBand(int64_t first_row, int64_t count) const;

  // What rows [first_row, first_row + count) become; `weights` holds these rows. The last row of a
  // band is that of the matrix, or the next band begins behind it.
  struct Band {
    std::span<std::byte> codes;   // [count, row_bytes]
    std::span<std::byte> scales;  // of the blocks that begin in the band
    std::span<std::byte> zeros;   // of the words that begin in the band
  };
  // `maximum`: where NeedsMaximum. `grid` (may be null) takes the scales. Throws: kNumeric for NaN
  // and infinity.
  void Encode(int64_t first_row, std::span<const std::byte> weights, float maximum,
              const Band& band, CodeGrid* grid = nullptr) const;
  // The inverse, but for what is the same for all of a row: numbers [rows of the band, columns].
  void DecodeNumbers(std::span<const std::byte> codes, const CodeGrid& grid,
                     MatrixView<float> numbers) const;
  // Codes of numbers that have one: what codes stand for before zero and scale.
  void EncodeNumbers(MatrixView<const float> numbers, std::span<std::byte> codes) const;
  // The global scale of two-level scales.
  float GlobalScale(float maximum) const;

 private:
  struct Scales;
  struct Ranges;
  // Row of the grid of the first: grid_row.
  void EncodeBlockRow(int64_t first_row, std::span<const std::byte> weights, float maximum,
                      const Band& band, CodeGrid* grid, int64_t grid_row) const;
  Scales MakeScales(std::span<const std::byte> weights, float maximum) const;
  // Of these ranges times `factor`.
  Scales ScalesOf(const Ranges& ranges, float maximum, float factor) const;
  Scales Search(std::span<const std::byte> row, const Ranges& ranges, float maximum) const;
  void EncodeRow(const WeightRow& row, const Scales& scales, std::span<std::byte> codes) const;
  void DecodeRow(std::span<const std::byte> codes, const GroupScales& scales,
                 std::span<const float> zeros, std::span<float> values) const;
  CodeGrid EmptyGrid(int64_t count) const;
  void FillGrid(const Scales& scales, int64_t grid_row, CodeGrid& grid) const;
  void StoreScales(const Scales& scales, std::span<std::byte> to) const;
  [[noreturn]] void FailNotFinite() const;

  std::string name_;
  TensorScheme scheme_;
  WeightRule rule_;
  Dtype type_;
  int64_t rows_;
  int64_t columns_;
  int64_t group_;  // columns that share a scale
  std::vector<float> search_weights_;
  EncodedSizes sizes_;
};

// Why a weight of this size has no such codes; nothing: it has.
std::optional<std::string> SizeProblem(const TensorScheme& scheme, int64_t rows, int64_t columns);

}  // namespace narrow
