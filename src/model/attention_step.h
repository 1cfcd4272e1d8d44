// Attention's part of a forward step: a class for each form that a spec's attention may have.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/decoder_layer.h"

namespace narrow {

// What a step is about. Views: what they show outlives the step.
struct AttentionContext {
  const DecoderLayer& layer;
  const RopeTable* rope;  // null: no rotation
  std::span<const Sequence> sequences;
  int64_t rows;  // of the batch
  BatchWorkspace& workspace;
  LayerObserver* observer;  // may be null
};

// One step over one batch. Project and Attended are called for tiles of rows, from several threads;
// all of Project comes before Attend, and that before Attended.
class AttentionStep {
 public:
  virtual ~AttentionStep() = default;
  // Of rows from `first` on, what attention needs to know. `input` [rows, hidden]: the residual
  // stream as attention reads it.
  virtual void Project(int64_t first, Operands input) = 0;
  // Tokens meet. On all threads.
  virtual void Attend() = 0;
  // Of these rows, the input of o.
  virtual Operands Attended(int64_t first, int64_t rows) = 0;
};

std::unique_ptr<AttentionStep> MakeAttention(const AttentionContext& context);
std::unique_ptr<AttentionStep> MakeSoftmaxAttention(const AttentionContext& context);
std::unique_ptr<AttentionStep> MakeLatentAttention(const AttentionContext& context);
std::unique_ptr<AttentionStep> MakeDeltaNet(const AttentionContext& context);

// Shows the input of a group's products to the observer, and brings it to what they read. x
// [rows, width], contiguous.
const FusedLinear& PrepareInput(const DecoderLayer& layer, LinearGroup group, int64_t first_row,
                                Operands x, LayerObserver* observer);

// The operand type of a layer.
inline ComputeType TypeOf(const DecoderLayer& layer) {
  return layer.Linear(LinearGroup::kQueryKeyValue).weights().type();
}

// Position of each row in its sequence.
std::vector<int64_t> PositionsOf(std::span<const Sequence> sequences, int64_t rows);

// What a thread keeps of a tile beside what all layers have, and while tokens meet.
int64_t AttentionTileBytes(const LayerSpec& spec, ComputeType compute);

}  // namespace narrow
