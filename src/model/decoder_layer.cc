#include "model/decoder_layer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "device/operations.h"

namespace narrow {
namespace {

// Buffers of a tile, of the thread.
struct TileBuffers {
  OperandBuffer normed, gate_up, activated;
};
TileBuffers& Tile() {
  thread_local TileBuffers buffers;
  return buffers;
}

// The forward step of one layer over one batch; holds what the three passes share.
class LayerStep {
 public:
  LayerStep(const DecoderConfig& config, const RopeTable& rope, const DecoderLayer& layer,
            std::span<const Sequence> sequences, MatrixView<float> hidden,
            BatchWorkspace& workspace, LayerObserver* observer)
      : config_(config),
        rope_(rope),
        layer_(layer),
        sequences_(sequences),
        hidden_(hidden),
        observer_(observer),
        compute_(layer.linears.front().weights().type()),
        positions_(static_cast<std::size_t>(hidden.rows)) {
    for (const Sequence& sequence : sequences) {
      for (int64_t i = 0; i < sequence.count; ++i) {
        positions_[static_cast<std::size_t>(sequence.first + i)] = i;
      }
    }
    query_key_value_ =
        workspace.query_key_value.Reserve(compute_, hidden.rows, config.query_key_value_width());
    attended_ = workspace.attended.Reserve(compute_, hidden.rows, config.query_width());
  }

  void Run() {
    const int64_t tile = TileRows(config_);
    ForTiles(hidden_.rows, tile,
             [&](int64_t first, int64_t rows) { ProjectAndRotate(first, rows); });
    Attend();
    ForTiles(hidden_.rows, tile, [&](int64_t first, int64_t rows) {
      AddAttentionOutput(first, rows);
      AddMlp(first, rows);
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

  Operands Normed(std::span<const float> weight, int64_t first, int64_t rows) {
    const Operands normed = Tile().normed.Reserve(compute_, rows, config_.hidden);
    RmsNorm(hidden_.RowBlock(first, rows), weight, config_.norm_epsilon, normed);
    return normed;
  }

  void ProjectAndRotate(int64_t first, int64_t rows) {
    const Operands normed = Normed(layer_.attention_norm.span(), first, rows);
    PrepareInput(LinearGroup::kQueryKeyValue, first, normed)
        .Multiply(normed, query_key_value_.RowBlock(first, rows));
    for (int64_t row = first; row < first + rows; ++row) RotateRow(row);
    const Operands keys = Keys().RowBlock(first, rows);
    const Operands values = Values().RowBlock(first, rows);
    if (observer_ != nullptr) {
      observer_->OnQueries(first, Queries().RowBlock(first, rows));
      observer_->OnKeys(first, keys);
      observer_->OnValues(first, values);
    }
    if (!layer_.cache) return;
    RoundToFloat8Grid(keys, layer_.cache->key_scale);
    RoundToFloat8Grid(values, layer_.cache->value_scale);
  }

  Operands Queries() const { return query_key_value_.ColumnBlock(0, config_.query_width()); }
  Operands Keys() const {
    return query_key_value_.ColumnBlock(config_.query_width(), config_.key_value_width());
  }
  Operands Values() const {
    return query_key_value_.ColumnBlock(config_.query_width() + config_.key_value_width(),
                                        config_.key_value_width());
  }

  void RotateRow(int64_t row) {
    const int64_t size = config_.heads.head_size;
    const Operands all = query_key_value_.RowBlock(row, 1);
    const std::span<const float> cosine = rope_.Cosine(positions_[static_cast<std::size_t>(row)]);
    const std::span<const float> sine = rope_.Sine(positions_[static_cast<std::size_t>(row)]);
    const int64_t rotated = config_.query_width() + config_.key_value_width();
    for (int64_t offset = 0; offset < rotated; offset += size) {
      RotateHead(all.ColumnBlock(offset, size), cosine, sine);
    }
  }

  void Attend() {
    float score_scale = 1.0f / std::sqrt(static_cast<float>(config_.heads.head_size));
    float value_scale = 1.0f;
    if (layer_.cache) {
      score_scale *= layer_.cache->key_scale;
      value_scale = layer_.cache->value_scale;
    }
    CausalAttention(config_.heads, sequences_, Queries(), Keys(), Values(), score_scale,
                    value_scale, attended_);
  }

  void AddAttentionOutput(int64_t first, int64_t rows) {
    const Operands x = attended_.RowBlock(first, rows);
    if (!layer_.attended_mixing.empty()) MixHeads(x);
    PrepareInput(LinearGroup::kAttentionOutput, first, x)
        .MultiplyAdd(x, hidden_.RowBlock(first, rows));
  }

  void MixHeads(Operands x) const {
    for (int64_t head = 0; head < config_.heads.query_heads; ++head) {
      const AlignedBuffer<float>& mixing =
          layer_.attended_mixing[static_cast<std::size_t>(head / config_.heads.sharing())];
      const int64_t size = config_.heads.head_size;
      MixHead({mixing.data(), size, size}, x.ColumnBlock(head * size, size));
    }
  }

  void AddMlp(int64_t first, int64_t rows) {
    const int64_t width = config_.intermediate;
    const Operands normed = Normed(layer_.mlp_norm.span(), first, rows);
    const Operands gate_up = Tile().gate_up.Reserve(compute_, rows, 2 * width);
    PrepareInput(LinearGroup::kGateUp, first, normed).Multiply(normed, gate_up);
    const Operands activated = Tile().activated.Reserve(compute_, rows, width);
    SwiGlu(gate_up.ColumnBlock(0, width), gate_up.ColumnBlock(width, width), activated);
    PrepareInput(LinearGroup::kDown, first, activated)
        .MultiplyAdd(activated, hidden_.RowBlock(first, rows));
  }

  const DecoderConfig& config_;
  const RopeTable& rope_;
  const DecoderLayer& layer_;
  std::span<const Sequence> sequences_;
  MatrixView<float> hidden_;
  LayerObserver* observer_;
  const ComputeType compute_;
  std::vector<int64_t> positions_;  // of each row in its sequence
  Operands query_key_value_;
  Operands attended_;
};

}  // namespace

void ForwardLayer(const DecoderConfig& config, const RopeTable& rope, const DecoderLayer& layer,
                  std::span<const Sequence> sequences, MatrixView<float> hidden,
                  BatchWorkspace& workspace, LayerObserver* observer) {
  LayerStep(config, rope, layer, sequences, hidden, workspace, observer).Run();
}

int64_t TileRows(const DecoderConfig& config) {
  // Measured: 512 rows reach the product's peak at hidden sizes of a few hundred; wide models reach
  // it with 256, which halves the memory of the gate and up activations per thread.
  return config.hidden <= 4096 ? 512 : 256;
}

int64_t WorkspaceBytes(const LayerSpec& spec, int64_t rows, ComputeType compute) {
  const int64_t projected = GroupOf(spec, LinearGroup::kQueryKeyValue).rows;
  const int64_t attended = GroupOf(spec, LinearGroup::kAttentionOutput).columns;
  return rows * (projected + attended) * OperandBytes(compute);
}

int64_t TileBytes(const DecoderConfig& config, const LayerSpec& spec, ComputeType compute) {
  const int64_t rows = TileRows(config);
  const auto output = [&](const GroupSpec& group, int64_t element_bytes) {
    return PackedWeights::ThreadBytes(compute, group.rows, group.columns, rows, element_bytes);
  };
  int64_t slots = config.hidden, stored = 0, added = 0;  // the first slot: kNormed
  for (const GroupSpec& group : GroupsOf(spec)) {
    if (group.id == LinearGroup::kGateUp) slots += group.rows;
    if (group.id == LinearGroup::kDown) slots += group.columns;  // kActivated
    if (group.id == LinearGroup::kQueryKeyValue || group.id == LinearGroup::kGateUp) {
      stored = std::max(stored, output(group, OperandBytes(compute)));
    } else {
      added = std::max(added, output(group, sizeof(float)));
    }
  }
  // f32 operands share one buffer.
  return rows * slots * OperandBytes(compute) +
         (compute == ComputeType::kBfloat16 ? stored + added : std::max(stored, added));
}

}  // namespace narrow
