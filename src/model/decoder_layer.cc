#include "model/decoder_layer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "kernels/elementwise.h"
#include "kernels/float8.h"

namespace narrow {
namespace {

// A thread's buffer of at least `count` elements; contents undefined. One per Slot and type.
enum class Slot { kNormed, kGateUp, kActivated };
template <typename T, Slot slot>
T* ThreadBuffer(int64_t count) {
  thread_local AlignedBuffer<T> buffer;
  if (buffer.size() < count) buffer = AlignedBuffer<T>(count);
  return buffer.data();
}

// x [n, head size] becomes x mixing^T.
template <typename T>
void MixHead(const AlignedBuffer<float>& mixing, MatrixView<T> x) {
  AlignedBuffer<float> before(x.rows * x.columns), after(x.rows * x.columns);
  const MatrixView<float> in(before.data(), x.rows, x.columns);
  const MatrixView<float> out(after.data(), x.rows, x.columns);
  for (int64_t row = 0; row < x.rows; ++row) ToFloats(x.RowSpan(row), in.RowSpan(row));
  ProductTransposed<float>(in, MatrixView<const float>(mixing.data(), x.columns, x.columns), out);
  for (int64_t row = 0; row < x.rows; ++row) FromFloats(out.RowSpan(row), x.RowSpan(row));
}

// The forward step of one layer over one batch; holds what the three passes share.
template <typename T>
class LayerStep {
 public:
  LayerStep(const DecoderConfig& config, const RopeTable& rope, const DecoderLayer<T>& layer,
            std::span<const Sequence> sequences, MatrixView<float> hidden,
            BatchWorkspace<T>& workspace, LayerObserver<T>* observer)
      : config_(config),
        rope_(rope),
        layer_(layer),
        sequences_(sequences),
        hidden_(hidden),
        observer_(observer),
        positions_(static_cast<std::size_t>(hidden.rows)) {
    for (const Sequence& sequence : sequences) {
      for (int64_t i = 0; i < sequence.count; ++i) {
        positions_[static_cast<std::size_t>(sequence.first + i)] = i;
      }
    }
    Reserve(workspace.query_key_value, hidden.rows * config.query_key_value_width());
    Reserve(workspace.attended, hidden.rows * config.query_width());
    query_key_value_ = {workspace.query_key_value.data(), hidden.rows,
                        config.query_key_value_width()};
    attended_ = {workspace.attended.data(), hidden.rows, config.query_width()};
  }

  void Run() {
    const int64_t tile = TileRows(config_);
    const int64_t tiles = DivideRoundUp(hidden_.rows, tile);
    const auto rows_of = [&](int64_t i) { return std::min(tile, hidden_.rows - i * tile); };
    ParallelFor(tiles, [&](int64_t i) { ProjectAndRotate(i * tile, rows_of(i)); });
    Attend();
    ParallelFor(tiles, [&](int64_t i) {
      AddAttentionOutput(i * tile, rows_of(i));
      AddMlp(i * tile, rows_of(i));
    });
  }

 private:
  static void Reserve(AlignedBuffer<T>& buffer, int64_t count) {
    if (buffer.size() < count) buffer = AlignedBuffer<T>(count);
  }

  // Shows the input of a group's products to the observer, and brings it to what they read. x
  // [rows, width], contiguous.
  const FusedLinear<T>& PrepareInput(LinearGroup group, int64_t first_row, MatrixView<T> x) {
    if (observer_ != nullptr) observer_->OnInput(group, first_row, x);
    layer_.Linear(group).RoundInput(x);
    return layer_.Linear(group);
  }

  MatrixView<T> Normed(std::span<const float> weight, int64_t first, int64_t rows) {
    const MatrixView<T> normed(ThreadBuffer<T, Slot::kNormed>(rows * config_.hidden), rows,
                               config_.hidden);
    RmsNorm<T>(hidden_.RowBlock(first, rows), weight, config_.norm_epsilon, normed);
    return normed;
  }

  void ProjectAndRotate(int64_t first, int64_t rows) {
    const MatrixView<T> normed = Normed(layer_.attention_norm.span(), first, rows);
    PrepareInput(LinearGroup::kQueryKeyValue, first, normed)
        .Multiply(normed, query_key_value_.RowBlock(first, rows));
    for (int64_t row = first; row < first + rows; ++row) RotateRow(row);
    const MatrixView<T> keys = Keys().RowBlock(first, rows);
    const MatrixView<T> values = Values().RowBlock(first, rows);
    if (observer_ != nullptr) {
      observer_->OnQueries(first, Queries().RowBlock(first, rows));
      observer_->OnKeys(first, keys);
      observer_->OnValues(first, values);
    }
    if (!layer_.cache) return;
    for (int64_t row = 0; row < rows; ++row) {
      RoundToFloat8Grid(keys.RowSpan(row), layer_.cache->key_scale);
      RoundToFloat8Grid(values.RowSpan(row), layer_.cache->value_scale);
    }
  }

  MatrixView<T> Queries() const { return query_key_value_.ColumnBlock(0, config_.query_width()); }
  MatrixView<T> Keys() const {
    return query_key_value_.ColumnBlock(config_.query_width(), config_.key_value_width());
  }
  MatrixView<T> Values() const {
    return query_key_value_.ColumnBlock(config_.query_width() + config_.key_value_width(),
                                        config_.key_value_width());
  }

  void RotateRow(int64_t row) {
    const auto size = static_cast<std::size_t>(config_.heads.head_size);
    const auto rotated =
        static_cast<std::size_t>(config_.query_width() + config_.key_value_width());
    const std::span<T> heads = query_key_value_.RowSpan(row).subspan(0, rotated);
    const std::span<const float> cosine = rope_.Cosine(positions_[static_cast<std::size_t>(row)]);
    const std::span<const float> sine = rope_.Sine(positions_[static_cast<std::size_t>(row)]);
    for (std::size_t offset = 0; offset < rotated; offset += size) {
      const std::span<T> head = heads.subspan(offset, size);
      RotateHead<T>(head, cosine, sine, head);
    }
  }

  void Attend() {
    float score_scale = 1.0f / std::sqrt(static_cast<float>(config_.heads.head_size));
    float value_scale = 1.0f;
    if (layer_.cache) {
      score_scale *= layer_.cache->key_scale;
      value_scale = layer_.cache->value_scale;
    }
    CausalAttention<T>(config_.heads, sequences_, Queries(), Keys(), Values(), score_scale,
                       value_scale, attended_);
  }

  void AddAttentionOutput(int64_t first, int64_t rows) {
    const MatrixView<T> x = attended_.RowBlock(first, rows);
    if (!layer_.attended_mixing.empty()) MixHeads(x);
    PrepareInput(LinearGroup::kAttentionOutput, first, x)
        .MultiplyAdd(x, hidden_.RowBlock(first, rows));
  }

  void MixHeads(MatrixView<T> x) const {
    for (int64_t head = 0; head < config_.heads.query_heads; ++head) {
      MixHead<T>(layer_.attended_mixing[static_cast<std::size_t>(head / config_.heads.sharing())],
                 x.ColumnBlock(head * config_.heads.head_size, config_.heads.head_size));
    }
  }

  void AddMlp(int64_t first, int64_t rows) {
    const int64_t width = config_.intermediate;
    const MatrixView<T> normed = Normed(layer_.mlp_norm.span(), first, rows);
    const MatrixView<T> gate_up(ThreadBuffer<T, Slot::kGateUp>(rows * 2 * width), rows, 2 * width);
    PrepareInput(LinearGroup::kGateUp, first, normed).Multiply(normed, gate_up);
    const MatrixView<T> activated(ThreadBuffer<T, Slot::kActivated>(rows * width), rows, width);
    SwiGlu<T>(gate_up.ColumnBlock(0, width), gate_up.ColumnBlock(width, width), activated);
    PrepareInput(LinearGroup::kDown, first, activated)
        .MultiplyAdd(activated, hidden_.RowBlock(first, rows));
  }

  const DecoderConfig& config_;
  const RopeTable& rope_;
  const DecoderLayer<T>& layer_;
  std::span<const Sequence> sequences_;
  MatrixView<float> hidden_;
  LayerObserver<T>* observer_;
  std::vector<int64_t> positions_;  // of each row in its sequence
  MatrixView<T> query_key_value_;
  MatrixView<T> attended_;
};

}  // namespace

template <typename T>
void ForwardLayer(const DecoderConfig& config, const RopeTable& rope, const DecoderLayer<T>& layer,
                  std::span<const Sequence> sequences, MatrixView<float> hidden,
                  BatchWorkspace<T>& workspace, LayerObserver<T>* observer) {
  LayerStep<T>(config, rope, layer, sequences, hidden, workspace, observer).Run();
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
    return compute == ComputeType::kBfloat16
               ? PackedMatrix<Bfloat16>::ThreadBytes(group.rows, group.columns, rows, element_bytes)
               : PackedMatrix<float>::ThreadBytes(group.rows, group.columns, rows, element_bytes);
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

template void ForwardLayer<Bfloat16>(const DecoderConfig&, const RopeTable&,
                                     const DecoderLayer<Bfloat16>&, std::span<const Sequence>,
                                     MatrixView<float>, BatchWorkspace<Bfloat16>&,
                                     LayerObserver<Bfloat16>*);
template void ForwardLayer<float>(const DecoderConfig&, const RopeTable&,
                                  const DecoderLayer<float>&, std::span<const Sequence>,
                                  MatrixView<float>, BatchWorkspace<float>&, LayerObserver<float>*);

}  // namespace narrow
