// The forward step of one expert on the rows of a batch that chose it.
#pragma once

#include <cstdint>
#include <vector>

#include "model/decoder_layer.h"
#include "model/routing.h"

namespace narrow {

// Rows of a batch that an expert takes along, in order, with the weight that each has for it.
struct ExpertRows {
  std::vector<int64_t> rows;
  std::vector<float> weights;
};
ExpertRows RowsOfExpert(const RoutedRows& routed, int64_t rows, int32_t expert);

// All rows of a batch; those that did not choose the expert have weight 0, for statistics alone.
ExpertRows AllRows(const RoutedRows& routed, int64_t rows, int32_t expert);

// hidden [rows of the batch, hidden] += what the expert makes of its rows: one MLP of a layer of
// its own (ExpertLayer). `observer` (null: none) sees the inputs of its products, rows counted
// among `rows`. Called for each expert in order, on all threads; each row's sum has the order of
// the experts, so that results depend neither on threads nor on batches.
void ForwardExpert(const DecoderLayer& expert, Routing::Weighed weighed, const RoutedRows& routed,
                   const ExpertRows& rows, MatrixView<float> hidden, LayerObserver* observer);

// Multiply-adds, counted as two operations each, that a token's experts take.
int64_t ExpertFlopsPerToken(const LayerSpec& layer);

// Memory of what each thread of ForwardExpert keeps.
int64_t ExpertTileBytes(const LayerSpec& expert, ComputeType compute);

}  // namespace narrow
