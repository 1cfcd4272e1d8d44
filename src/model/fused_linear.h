// Linears that read the same input, run as one product.
#pragma once

#include <optional>
#include <vector>

#include "device/packed_weights.h"
#include "schemes/input_rounding.h"
#include "schemes/tensor_scheme.h"

namespace narrow {

// How the input of quantized linears is rounded.
struct LinearInput {
  std::optional<TensorScheme> scheme;  // nothing: it stays as it is
  StaticInput values;                  // what of it is in the checkpoint
};

// Of E4M3 with one static scale.
LinearInput StaticFloat8Input(float scale);

// What quantized linears that read the same input mean: packed numbers, times a scale of their row,
// are the weights.
struct LinearScales {
  LinearInput input;
  std::vector<float> weights = {};  // of each linear, or of each of their rows
};

// What becomes of the input of quantized linears.
enum class LinearInputs {
  kQuantized,  // rounded as their scheme says
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

  // From now on the packed weights are numbers with these scales (codes, exact in either operand
  // type, where a row has one scale), and inputs are quantized.
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
  // What of the input's scale multiplies the product, so that rounded inputs are exact in bf16: a
  // static scale, and the global one of two levels. Others multiply the inputs themselves.
  float InputFactor() const;

  PackedWeights weights_;
  std::vector<int64_t> rows_;
  std::vector<float> bias_;
  std::optional<LinearScales> scales_;
  LinearInputs inputs_ = LinearInputs::kQuantized;  // where there are scales
};

}  // namespace narrow
