#include "model/decoder_layer.h"

#include <algorithm>
#include <memory>

#include "model/attention_step.h"

namespace narrow {
namespace {

// Buffers of a tile, of the thread.
struct TileBuffers {
  OperandBuffer normed, gate_up, activated, added;
};
TileBuffers& Tile() {
  thread_local TileBuffers buffers;
  return buffers;
}

// Whether what a block adds is changed on its way to the residual stream.
bool ChangesSum(const LayerSpec& spec, NormPlace after, float residual_scale) {
  return spec.Norm(after).has_value() || residual_scale != 1.0f;
}

// The forward step of one layer over one batch; holds what the three passes share.
class LayerStep {
 public:
  LayerStep(const DecoderLayer& layer, const RopeTable* rope, std::span<const Sequence> sequences,
            MatrixView<float> hidden, BatchWorkspace& workspace, LayerObserver* observer,
            const RoutedRows* routed)
      : layer_(layer),
        spec_(layer.spec),
        hidden_(hidden),
        observer_(observer),
        routed_(routed),
        compute_(layer.linears.front().weights().type()),
        attention_(MakeAttention({layer, rope, sequences, hidden.rows, workspace, observer})) {
    NARROW_CHECK(!spec_.experts || routed != nullptr);
  }

  void Run() {
    const int64_t tile = TileRows(spec_.hidden);
    ForTiles(hidden_.rows, tile, [&](int64_t first, int64_t rows) {
      attention_->Project(first, BlockInput(NormPlace::kBeforeAttention, first, rows));
    });
    attention_->Attend();
    ForTiles(hidden_.rows, tile, [&](int64_t first, int64_t rows) {
      // What reads the residual stream as attention does comes before attention changes it.
      if (spec_.mlp_input == LayerSpec::MlpInput::kAttention) AddMlp(first, rows);
      AddProduct(LinearGroup::kAttentionOutput, attention_->Attended(first, rows),
                 NormPlace::kAfterAttention, spec_.attention.residual_scale, first);
      if (spec_.mlp_input == LayerSpec::MlpInput::kResidual) AddMlp(first, rows);
    });
  }

 private:
  // The residual stream as a block reads it.
  Operands BlockInput(NormPlace before, int64_t first, int64_t rows) {
    const Operands input = Tile().normed.Reserve(compute_, rows, spec_.hidden);
    const MatrixView<float> x = hidden_.RowBlock(first, rows);
    if (const Norm* norm = layer_.NormAt(before)) {
      norm->Apply(x, input);
    } else {
      FromFloats(x, input);
    }
    return input;
  }

  // Adds the product of x to the residual stream, as the block has it.
  // `row_scales`: what each row of it is multiplied by; empty: 1.
  void AddProduct(LinearGroup group, Operands x, NormPlace after, float residual_scale,
                  int64_t first, std::span<const float> row_scales = {}) {
    const MatrixView<float> residual = hidden_.RowBlock(first, x.rows);
    const FusedLinear& linear = PrepareInput(layer_, group, first, x, observer_);
    if (!ChangesSum(spec_, after, residual_scale) && row_scales.empty()) {
      return linear.MultiplyAdd(x, residual);
    }
    const Operands memory = Tile().added.Reserve(ComputeType::kFloat32, x.rows, spec_.hidden);
    const MatrixView<float> sum = memory.As<float>();
    std::fill_n(sum.data, sum.rows * sum.columns, 0.0f);
    linear.MultiplyAdd(x, sum);
    if (const Norm* norm = layer_.NormAt(after)) norm->Apply(sum, memory);
    for (int64_t row = 0; row < sum.rows; ++row) {
      const float own = row_scales.empty() ? 1.0f : row_scales[static_cast<std::size_t>(row)];
      const float scale = residual_scale * own;
      for (int64_t i = 0; i < sum.columns; ++i) residual.Row(row)[i] += scale * sum.Row(row)[i];
    }
  }

  void AddMlp(int64_t first, int64_t rows) {
    const bool own_norm = spec_.mlp_input == LayerSpec::MlpInput::kResidual;
    const Operands input =
        BlockInput(own_norm ? NormPlace::kBeforeMlp : NormPlace::kBeforeAttention, first, rows);
    if (spec_.experts) RouteRows(layer_, input, routed_->RowBlock(first, rows));
    if (!spec_.mlp) return;
    const MlpBlock& mlp = *spec_.mlp;
    std::vector<float> opened;  // of each row, where a gate says it
    if (!mlp.token_gate.empty()) {
      opened = TokenGates(layer_.Plain(mlp.token_gate + ".weight"), input);
    }
    const int64_t width = mlp.gate == MlpBlock::Gate::kPresent ? 2 * mlp.width : mlp.width;
    const Operands gate_up = Tile().gate_up.Reserve(compute_, rows, width);
    PrepareInput(layer_, LinearGroup::kGateUp, first, input, observer_).Multiply(input, gate_up);
    const Operands activated = Tile().activated.Reserve(compute_, rows, mlp.width);
    ActivateMlp(mlp, gate_up, activated);
    AddProduct(LinearGroup::kDown, activated, NormPlace::kAfterMlp, mlp.residual_scale, first,
               opened);
  }

  const DecoderLayer& layer_;
  const LayerSpec& spec_;
  MatrixView<float> hidden_;
  LayerObserver* observer_;
  const RoutedRows* routed_;
  const ComputeType compute_;
  const std::unique_ptr<AttentionStep> attention_;
};

}  // namespace

void ForwardLayer(const DecoderLayer& layer, const RopeTables& rope,
                  std::span<const Sequence> sequences, MatrixView<float> hidden,
                  BatchWorkspace& workspace, LayerObserver* observer, const RoutedRows* routed) {
  LayerStep(layer, rope.Of(layer.spec), sequences, hidden, workspace, observer, routed).Run();
}

int64_t AttentionFlops(const AttentionBlock& attention, int64_t tokens) {
  if (const auto* net = attention.As<DeltaNet>()) return DeltaRuleFlops(*net, tokens);
  return CausalAttentionFlops(attention.heads, tokens, attention.scores.window);
}

int64_t TileRows(int64_t hidden) {
  // Measured: 512 rows reach the product's peak at hidden sizes of a few hundred; wide models reach
  // it with 256, which halves the memory of the gate and up activations per thread.
  return hidden <= 4096 ? 512 : 256;
}

int64_t WorkspaceBytes(const LayerSpec& spec, int64_t rows, ComputeType compute) {
  const AttentionHeads& heads = spec.attention.heads;
  const int64_t projected = spec.attention.As<LatentHeads>() != nullptr
                                ? 2 * heads.query_width() + heads.value_width()
                                : GroupOf(spec, LinearGroup::kQueryKeyValue).rows;
  const int64_t attended = GroupOf(spec, LinearGroup::kAttentionOutput).columns;
  const int64_t rates =
      HasGroup(spec, LinearGroup::kDeltaRates) ? GroupOf(spec, LinearGroup::kDeltaRates).rows : 0;
  int64_t indexed = 0;  // a text may be as long as the batch
  const auto* latent = spec.attention.As<LatentHeads>();
  if (latent != nullptr && latent->indexer) {
    const KeyScores& keys = latent->indexer->keys;
    indexed = (keys.heads + 1) * keys.size * OperandBytes(compute) +
              keys.heads * static_cast<int64_t>(sizeof(float)) + (rows > keys.count ? rows : 0);
  }
  return rows * ((projected + attended) * OperandBytes(compute) + indexed +
                 2 * rates * static_cast<int64_t>(sizeof(float)));
}

int64_t TileBytes(const LayerSpec& spec, ComputeType compute) {
  const int64_t rows = TileRows(spec.hidden);
  const auto output = [&](const GroupSpec& group, int64_t element_bytes) {
    return PackedWeights::ThreadBytes(compute, group.rows, group.columns, rows, element_bytes);
  };
  int64_t slots = spec.hidden, stored = 0, added = 0;  // the first slot: normed
  for (const GroupSpec& group : GroupsOf(spec)) {
    if (group.id == LinearGroup::kGateUp) slots += group.rows;
    if (group.id == LinearGroup::kDown) slots += group.columns;  // activated
    if (group.id != LinearGroup::kAttentionOutput && group.id != LinearGroup::kDown &&
        group.id != LinearGroup::kDeltaRates) {
      stored = std::max(stored, output(group, OperandBytes(compute)));
    } else {
      added = std::max(added, output(group, sizeof(float)));
    }
  }
  const bool sums =
      ChangesSum(spec, NormPlace::kAfterAttention, spec.attention.residual_scale) ||
      (spec.mlp && (!spec.mlp->token_gate.empty() ||
                    ChangesSum(spec, NormPlace::kAfterMlp, spec.mlp->residual_scale)));
  const int64_t sum_bytes = sums ? rows * spec.hidden * static_cast<int64_t>(sizeof(float)) : 0;
  // f32 operands share one buffer.
  return rows * slots * OperandBytes(compute) + sum_bytes + AttentionTileBytes(spec, compute) +
         (compute == ComputeType::kBfloat16 ? stored + added : std::max(stored, added));
}

}  // namespace narrow
