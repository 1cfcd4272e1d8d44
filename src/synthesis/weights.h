// Random weights with the traits of trained ones that matter to quantization and to a forward pass.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/scheme_format.h"
#include "io/safetensors.h"
#include "tensor/scalar_types.h"

namespace narrow {

// How a tensor is filled.
//   kMatrix     Standard deviation 1/sqrt(columns): a normed input of size 1 gives outputs of size
//   1
//               at any width. Tensors, rows and columns differ by log-normal factors, as they do in
//               trained models; it is what sets one scale per tensor apart from many.
//   kEmbedding  Standard deviation 0.02, the usual initialisation. Rows (tokens) and columns
//   differ. kNorm       Log-normal around 1. kNormLessOne  The same less 1. kBias       Standard
//   deviation 0.02.
enum class TensorKind { kMatrix, kEmbedding, kNorm, kNormLessOne, kBias };

struct TensorToFill {
  TensorSpec spec;  // BF16; [rows, columns] for a matrix or embedding, else [size]
  TensorKind kind = TensorKind::kMatrix;
  double gain = 1.0;  // multiplies every weight
  // Outlier channels: one in 1024 activations (at least one) of a named place is 10 to 20 times the
  // size of the others. Whatever makes the activations (a norm, or the rows of a matrix) names the
  // place as its outputs, and every matrix that reads them names it as its inputs; its matching
  // columns are as much smaller, so the model computes what it would without outliers and only the
  // range of the activations is hard. Empty: none. The channels are the same at all places of one
  // width, as trained models have them in the same channels of every layer.
  // Source: Dettmers et al., "LLM.int8()" (2022), section 4; Xiao et al., "SmoothQuant" (2023).
  std::string output_place = {};
  std::string input_place = {};
  // How a matrix "<module>.weight" is stored; null: as it is filled.
  const SchemeFormat* format = nullptr;
  LinearScheme scheme = {};
};

// Throws: kInvalidArgument when the tensor is not BF16, its shape does not fit its kind, is empty
// or too large, or the gain is not finite.
void CheckTensorToFill(const TensorToFill& tensor);

struct OutlierChannel {
  int64_t channel = 0;
  float factor = 1.0f;  // in [10, 20)
};
// The outlier channels of a place of `width` channels, ordered by channel. REQUIRES: width > 0.
std::vector<OutlierChannel> OutlierChannels(uint64_t seed, const std::string& place, int64_t width);

// Makes the rows of one tensor, in any order. Thread-safe after construction; memory: one float for
// each column. A vector is one row. Equal seeds, names and shapes give equal weights in any build
// of the program with the same C library.
class WeightGenerator {
 public:
  // Throws: as CheckTensorToFill does.
  WeightGenerator(const TensorToFill& tensor, uint64_t seed);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return static_cast<int64_t>(column_factors_.size()); }
  // Writes one row. REQUIRES: 0 <= row < rows(), out.size() == columns(). noexcept.
  void FillRow(int64_t row, std::span<Bfloat16> out) const noexcept;

 private:
  void SetColumns(const TensorToFill& tensor, uint64_t seed, double deviation, double spread);
  void FillNorm(std::span<Bfloat16> out) const noexcept;

  TensorKind kind_;
  uint64_t key_ = 0;
  int64_t rows_ = 1;
  double row_spread_ = 0.0;
  std::vector<float> column_factors_;
  std::vector<OutlierChannel> row_outliers_;
};

}  // namespace narrow
