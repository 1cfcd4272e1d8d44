#include "model/decoder_layer.h"

#include <algorithm>
#include <cmath>
#include <vector>

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
        heads_(layer.spec.attention.heads),
        rope_(rope),
        sequences_(sequences),
        hidden_(hidden),
        observer_(observer),
        routed_(routed),
        compute_(layer.linears.front().weights().type()),
        positions_(static_cast<std::size_t>(hidden.rows)) {
    NARROW_CHECK(!spec_.experts || routed != nullptr);
    for (const Sequence& sequence : sequences) {
      for (int64_t i = 0; i < sequence.count; ++i) {
        positions_[static_cast<std::size_t>(sequence.first + i)] = i;
      }
    }
    query_key_value_ = workspace.query_key_value.Reserve(
        compute_, hidden.rows, heads_.query_width() + 2 * heads_.key_value_width());
    attended_ = workspace.attended.Reserve(compute_, hidden.rows, heads_.query_width());
  }

  void Run() {
    const int64_t tile = TileRows(spec_.hidden);
    ForTiles(hidden_.rows, tile, [&](int64_t first, int64_t rows) { ProjectHeads(first, rows); });
    Attend();
    ForTiles(hidden_.rows, tile, [&](int64_t first, int64_t rows) {
      // What reads the residual stream as attention does comes before attention changes it.
      if (spec_.mlp_input == LayerSpec::MlpInput::kAttention) AddMlp(first, rows);
      AddAttention(first, rows);
      if (spec_.mlp_input == LayerSpec::MlpInput::kResidual) AddMlp(first, rows);
    });
  }

 private:
  // Shows the input of a group's products to the observer, and brings it to what they read. x
  // [rows, width], contiguous.
  const FusedLinear& PrepareInput(LinearGroup group, int64_t first_row, Operands x) {
    if (observer_ != nullptr) observer_->OnInput(group, first_row, x);
    layer_.Linear(group).RoundInput(x);
    return layer_.Linear(group);
  }

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
    const FusedLinear& linear = PrepareInput(group, first, x);
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

  void ProjectHeads(int64_t first, int64_t rows) {
    const Operands input = BlockInput(NormPlace::kBeforeAttention, first, rows);
    PrepareInput(LinearGroup::kQueryKeyValue, first, input)
        .Multiply(input, query_key_value_.RowBlock(first, rows));
    const Operands queries = Queries().RowBlock(first, rows);
    const Operands keys = Keys().RowBlock(first, rows);
    const Operands values = Values().RowBlock(first, rows);
    using HeadNorms = AttentionBlock::HeadNorms;
    if (spec_.attention.head_norms == HeadNorms::kBeforeRotation) NormHeads(queries, keys);
    for (int64_t row = first; rope_ != nullptr && row < first + rows; ++row) RotateRow(row);
    if (spec_.attention.head_norms == HeadNorms::kAfterRotation) NormHeads(queries, keys);
    if (spec_.attention.temperature) ScaleQueries(first, queries);
    if (observer_ != nullptr) {
      observer_->OnQueries(first, queries);
      observer_->OnKeys(first, keys);
      observer_->OnValues(first, values);
    }
    if (!layer_.cache) return;
    if (InFloat8()) RoundToFloat8Grid(Queries().RowBlock(first, rows), layer_.cache->query_scale);
    RoundCache(keys, layer_.cache->key_scale, layer_.cache->key_scales);
    RoundCache(values, layer_.cache->value_scale, layer_.cache->value_scales);
  }

  // One scale for all heads multiplies what attention makes of the rounded numbers; scales of heads
  // multiply these.
  void RoundCache(Operands x, float scale, const std::vector<float>& of_heads) const {
    if (of_heads.empty()) return RoundToFloat8Grid(x, scale);
    for (std::size_t head = 0; head < of_heads.size(); ++head) {
      const Operands part =
          x.ColumnBlock(static_cast<int64_t>(head) * heads_.head_size, heads_.head_size);
      RoundToFloat8Grid(part, of_heads[head]);
      for (int64_t row = 0; row < x.rows; ++row) Scale(part.RowBlock(row, 1), of_heads[head]);
    }
  }

  bool InFloat8() const { return layer_.cache && layer_.attention == AttentionArithmetic::kFloat8; }

  Operands Queries() const { return query_key_value_.ColumnBlock(0, heads_.query_width()); }
  Operands Keys() const {
    return query_key_value_.ColumnBlock(heads_.query_width(), heads_.key_value_width());
  }
  Operands Values() const {
    return query_key_value_.ColumnBlock(heads_.query_width() + heads_.key_value_width(),
                                        heads_.key_value_width());
  }

  void NormHeads(Operands queries, Operands keys) const {
    if (const Norm* norm = layer_.NormAt(NormPlace::kQuery)) norm->ApplyToSegments(queries);
    if (const Norm* norm = layer_.NormAt(NormPlace::kKey)) norm->ApplyToSegments(keys);
  }

  void RotateRow(int64_t row) {
    const int64_t rotated = heads_.query_width() + heads_.key_value_width();
    const Operands all = query_key_value_.RowBlock(row, 1);
    const std::span<const float> cosine = rope_->Cosine(positions_[static_cast<std::size_t>(row)]);
    const std::span<const float> sine = rope_->Sine(positions_[static_cast<std::size_t>(row)]);
    for (int64_t offset = 0; offset < rotated; offset += heads_.head_size) {
      RotateHead(all.ColumnBlock(offset, heads_.head_size), spec_.attention.rotary->pairs, cosine,
                 sine);
    }
  }

  void ScaleQueries(int64_t first, Operands queries) const {
    const QueryTemperature& temperature = *spec_.attention.temperature;
    for (int64_t row = 0; row < queries.rows; ++row) {
      const auto position = static_cast<double>(positions_[static_cast<std::size_t>(first + row)]);
      const double steps = std::log1p(std::floor(position / temperature.positions));
      Scale(queries.RowBlock(row, 1), 1.0f + temperature.beta * static_cast<float>(steps));
    }
  }

  void Attend() {
    AttentionScores scores = spec_.attention.scores;
    const std::string& sinks = spec_.attention.sinks;
    float value_scale = 1.0f;
    if (layer_.cache) {
      scores.scale *= layer_.cache->key_scale;
      value_scale = layer_.cache->value_scale;
    }
    if (InFloat8()) scores.scale *= layer_.cache->query_scale;
    CausalAttention(heads_, sequences_, Queries(), Keys(), Values(), scores, value_scale, attended_,
                    InFloat8() ? ProbabilityRounding::kFloat8 : ProbabilityRounding::kOperand,
                    sinks.empty() ? std::span<const float>() : layer_.Plain(sinks));
  }

  void AddAttention(int64_t first, int64_t rows) {
    const Operands x = attended_.RowBlock(first, rows);
    if (!layer_.attended_mixing.empty()) MixHeads(x);
    AddProduct(LinearGroup::kAttentionOutput, x, NormPlace::kAfterAttention,
               spec_.attention.residual_scale, first);
  }

  void MixHeads(Operands x) const {
    const int64_t size = heads_.head_size;
    for (int64_t head = 0; head < heads_.query_heads; ++head) {
      const AlignedBuffer<float>& mixing =
          layer_.attended_mixing[static_cast<std::size_t>(head / heads_.sharing())];
      MixHead({mixing.data(), size, size}, x.ColumnBlock(head * size, size));
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
    PrepareInput(LinearGroup::kGateUp, first, input).Multiply(input, gate_up);
    const Operands activated = Tile().activated.Reserve(compute_, rows, mlp.width);
    ActivateMlp(mlp, gate_up, activated);
    AddProduct(LinearGroup::kDown, activated, NormPlace::kAfterMlp, mlp.residual_scale, first,
               opened);
  }

  const DecoderLayer& layer_;
  const LayerSpec& spec_;
  const AttentionHeads& heads_;
  const RopeTable* rope_;  // null: none
  std::span<const Sequence> sequences_;
  MatrixView<float> hidden_;
  LayerObserver* observer_;
  const RoutedRows* routed_;
  const ComputeType compute_;
  std::vector<int64_t> positions_;  // of each row in its sequence
  Operands query_key_value_;
  Operands attended_;
};

}  // namespace

void ForwardLayer(const DecoderLayer& layer, const RopeTables& rope,
                  std::span<const Sequence> sequences, MatrixView<float> hidden,
                  BatchWorkspace& workspace, LayerObserver* observer, const RoutedRows* routed) {
  LayerStep(layer, rope.Of(layer.spec), sequences, hidden, workspace, observer, routed).Run();
}

int64_t AttentionFlops(const LayerSpec& spec, int64_t tokens) {
  return CausalAttentionFlops(spec.attention.heads, tokens, spec.attention.scores.window);
}

int64_t TileRows(int64_t hidden) {
  // Measured: 512 rows reach the product's peak at hidden sizes of a few hundred; wide models reach
  // it with 256, which halves the memory of the gate and up activations per thread.
  return hidden <= 4096 ? 512 : 256;
}

int64_t WorkspaceBytes(const LayerSpec& spec, int64_t rows, ComputeType compute) {
  const int64_t projected = GroupOf(spec, LinearGroup::kQueryKeyValue).rows;
  const int64_t attended = GroupOf(spec, LinearGroup::kAttentionOutput).columns;
  return rows * (projected + attended) * OperandBytes(compute);
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
    if (group.id == LinearGroup::kQueryKeyValue || group.id == LinearGroup::kGateUp) {
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
  return rows * slots * OperandBytes(compute) + sum_bytes +
         (compute == ComputeType::kBfloat16 ? stored + added : std::max(stored, added));
}

}  // namespace narrow
