// Linears that read the same input, run as one product.
#pragma once

#include <optional>
#include <vector>

#include "device/packed_weights.h"

namespace narrow {

// Scales of FP8 linears that read the same input: a code times its scale is the number it means.
struct LinearScales {
  float input = 1.0f;
  std::vector<float> weights = {};  // of each linear
};

// What becomes of the input of quantized linears.
enum class LinearInputs {
  kQuantized,  // rounded to E4M3
  kOriginal,
};

// Owns all that their product depends on: the packed weights of the linears (rows stacked), the
// rounding of the input, the scales of the output, the biases. Nothing above knows whether it is
// quantized. Products are thread-safe, changes are not.
class FusedLinear {
 public:
  FusedLinear() = default;
  // `rows` of each linear; `bias` of all rows, or empty.
  FusedLinear(PackedWeights weights, std::vector<int64_t> rows, std::vector<float> bias = {});

  PackedWeights& weights() { return weights_; }
  const PackedWeights& weights() const { return weights_; }
  // Nothing while the weights are those of the original.
  const std::optional<LinearScales>& scales() const { return scales_; }

  // From now on the packed weights are E4M3 numbers (codes as values, exact in either operand type)
  // with these scales, and inputs are quantized.
  void Quantize(LinearScales scales);
  // REQUIRES: quantized.
  void TakeInputs(LinearInputs inputs);

  // Brings inputs x [m, columns], contiguous, in place to what the product reads.
  void RoundInput(Operands x) const;
  // out [m, rows] = x W^T + bias, and out += the same, of an x that went through RoundInput. On the
  // calling thread.
  void Multiply(ConstOperands x, Operands out) const { weights_.Multiply(x, out); }
  void MultiplyAdd(ConstOperands x, MatrixView<float> out) const { weights_.MultiplyAdd(x, out); }

 private:
  void SetEpilogue();

  PackedWeights weights_;
  std::vector<int64_t> rows_;
  std::vector<float> bias_;
  std::optional<LinearScales> scales_;
  LinearInputs inputs_ = LinearInputs::kQuantized;  // where there are scales
};

}  // namespace narrow
