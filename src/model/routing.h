// How the tokens of a layer with experts are routed, and the gates of MLPs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "device/operands.h"
#include "model/spec.h"
#include "tensor/tensor.h"

namespace narrow {

struct DecoderLayer;

// Rows of a batch on their way to the experts of a layer: a view.
struct RoutedRows {
  MatrixView<float> inputs;    // [rows, hidden]: what experts read
  int64_t per_token = 0;       // experts of each row
  int32_t* experts = nullptr;  // [rows, per_token], ascending in a row
  float* weights = nullptr;    // [rows, per_token]: of their outputs, or of their input

  RoutedRows RowBlock(int64_t first, int64_t count) const {
    return {inputs.RowBlock(first, count), per_token, experts + first * per_token,
            weights + first * per_token};
  }
};

// Keeps x [rows, hidden], what the layer's experts read, and chooses experts for each row. The
// logits are float32 products, whatever the operands. On the calling thread; a row's routes depend
// on that row alone.
void RouteRows(const DecoderLayer& layer, ConstOperands x, const RoutedRows& routed);

// Chooses experts[] and weights[] of one token from its logits, one for each expert; `correction`
// may be empty. Of equal scores the first counts.
void ChooseExperts(const Routing& routing, std::span<const float> logits,
                   std::span<const float> correction, std::span<int32_t> experts,
                   std::span<float> weights);

// sigmoid(x weight) of each row of x [rows, hidden].
std::vector<float> TokenGates(std::span<const float> weight, ConstOperands x);

// activated [rows, width] of the outputs of gate and up, or of up alone, side by side.
void ActivateMlp(const MlpBlock& mlp, ConstOperands gate_up, Operands activated);

}  // namespace narrow
