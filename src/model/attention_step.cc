#include "model/attention_step.h"

namespace narrow {

std::unique_ptr<AttentionStep> MakeAttention(const AttentionContext& context) {
  if (context.layer.spec.attention.As<DeltaNet>() != nullptr) return MakeDeltaNet(context);
  if (context.layer.spec.attention.As<LatentHeads>() != nullptr) {
    return MakeLatentAttention(context);
  }
  return MakeSoftmaxAttention(context);
}

const FusedLinear& PrepareInput(const DecoderLayer& layer, LinearGroup group, int64_t first_row,
                                Operands x, LayerObserver* observer) {
  if (observer != nullptr) observer->OnInput(group, first_row, x);
  layer.Linear(group).RoundInput(x);
  return layer.Linear(group);
}

std::vector<int64_t> PositionsOf(std::span<const Sequence> sequences, int64_t rows) {
  std::vector<int64_t> positions(static_cast<std::size_t>(rows));
  for (const Sequence& sequence : sequences) {
    for (int64_t i = 0; i < sequence.count; ++i) {
      positions[static_cast<std::size_t>(sequence.first + i)] = i;
    }
  }
  return positions;
}

int64_t AttentionTileBytes(const LayerSpec& spec, ComputeType compute) {
  if (!HasGroup(spec, LinearGroup::kQueryKeyValue)) return 0;  // one expert
  const int64_t projected = TileRows(spec.hidden) *
                            GroupOf(spec, LinearGroup::kQueryKeyValue).rows * OperandBytes(compute);
  if (const auto* direct = spec.attention.As<DirectHeads>()) {
    return direct->gate == DirectHeads::OutputGate::kByHead ? projected : 0;
  }
  if (const auto* net = spec.attention.As<DeltaNet>()) {
    const int64_t rates = 2 * net->value_heads * static_cast<int64_t>(sizeof(float));
    return projected + TileRows(spec.hidden) * (rates + spec.hidden * OperandBytes(compute)) +
           DeltaRuleThreadBytes(*net);
  }
  if (const auto* latent = spec.attention.As<LatentHeads>()) {
    const int64_t cached = 2 * latent->key_value_latent + latent->turned;
    const int64_t expanded = GroupOf(spec, LinearGroup::kKeyValueFromLatent).rows;
    return projected + TileRows(spec.hidden) * (latent->query_latent + cached + expanded) *
                           OperandBytes(compute);
  }
  return 0;
}

}  // namespace narrow
