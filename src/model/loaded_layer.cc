#include "model/loaded_layer.h"

#include <algorithm>
#include <utility>

#include "base/parallel.h"
#include "kernels/elementwise.h"
#include "kernels/feedback.h"
#include "kernels/float8.h"

namespace narrow {
namespace {

constexpr int64_t kRewriteBytes = int64_t{64} << 20;
constexpr int64_t kCopyBytes = int64_t{16} << 20;  // of weights that are handed over as stored

// Rows [first, first + out.rows) of one stored linear as numbers (codes without their scale).
template <typename T>
AbsoluteMaximum LoadStoredRows(const StoredMatrix& weight, int64_t first, MatrixView<T> out) {
  AlignedBuffer<std::byte> scratch;
  const std::span<const std::byte> bytes = weight.Rows(first, out.rows, scratch);
  const std::size_t row_bytes = bytes.size() / static_cast<std::size_t>(out.rows);
  std::vector<AbsoluteMaximum> maxima(static_cast<std::size_t>(out.rows));
  ParallelFor(out.rows, [&](int64_t row) {
    const auto r = static_cast<std::size_t>(row);
    const std::span<const std::byte> row_data = bytes.subspan(r * row_bytes, row_bytes);
    if (weight.dtype() == Dtype::kF8E4M3) {
      DecodeFloat8({reinterpret_cast<const Float8E4M3*>(row_data.data()), row_data.size()},
                   out.RowSpan(row));
    } else {
      ConvertRow(weight.dtype(), row_data, out.RowSpan(row));
    }
    maxima[r] = FindMaximum(weight.dtype(), row_data);
  });
  AbsoluteMaximum total;
  for (const AbsoluteMaximum& maximum : maxima) total = Merge(total, maximum);
  return total;
}

AlignedBuffer<float> ToBuffer(const std::vector<float>& values) {
  AlignedBuffer<float> buffer(static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), buffer.data());
  return buffer;
}

// Rows that are shown as f32 together.
template <typename T>
int64_t RowsShown(const PackedMatrix<T>& packed) {
  return std::min(RewriteRows(packed.columns()), packed.panel_rows());
}

// Unpacks a matrix panel by panel and calls chunk(first row, rows as they are packed, memory for
// the same rows as f32) for parts of each, then done(panel, its rows).
template <typename T, typename Chunk, typename Done>
void VisitPanels(const PackedMatrix<T>& packed, const Chunk& chunk, const Done& done) {
  const int64_t columns = packed.columns();
  AlignedBuffer<T> panel(packed.panel_rows() * columns);
  const int64_t chunk_rows = RowsShown(packed);
  AlignedBuffer<float> floats(chunk_rows * columns);
  for (int64_t p = 0; p < packed.panel_count(); ++p) {
    const int64_t panel_first = p * packed.panel_rows();
    const int64_t panel_count = std::min(packed.panel_rows(), packed.rows() - panel_first);
    const MatrixView<T> view(panel.data(), panel_count, columns);
    packed.UnpackPanel(p, view);
    for (int64_t first = 0; first < panel_count; first += chunk_rows) {
      const int64_t count = std::min(chunk_rows, panel_count - first);
      chunk(panel_first + first, view.RowBlock(first, count),
            MatrixView<float>(floats.data(), count, columns));
    }
    done(p, view);
  }
}

// Calls visit(stored linear, first row in the linear, rows of `view` that are its) for every linear
// that has rows among [first_row, first_row + view.rows) of the group.
template <typename Linears, typename View, typename Visit>
void ForLinearsAmong(const Linears& linears, int64_t first_row, View view, const Visit& visit) {
  int64_t begin = 0;
  for (auto* linear : linears) {
    const int64_t end = begin + linear->weight.rows();
    const int64_t from = std::max(first_row, begin);
    const int64_t to = std::min(first_row + view.rows, end);
    if (from < to) visit(*linear, from - begin, view.RowBlock(from - first_row, to - from));
    begin = end;
  }
}

template <typename Layer>
auto LinearsOf(Layer& layer, LinearGroup group) {
  std::vector<decltype(&layer.linears.front())> linears;
  for (auto& linear : layer.linears) {
    if (linear.spec.group == group) linears.push_back(&linear);
  }
  return linears;
}

int64_t LargestGroupBytes(const LayerSpec& spec, ComputeType compute) {
  int64_t largest = 0;
  for (const GroupSpec& group : GroupsOf(spec)) largest = std::max(largest, group.elements());
  return largest * OperandBytes(compute);
}

// Of all rows of a group; zeros where a linear has none, empty where none has.
std::vector<float> BiasOf(const std::vector<StoredLinear*>& linears) {
  std::vector<float> bias;
  for (const StoredLinear* linear : linears) {
    const auto count = static_cast<std::size_t>(linear->weight.rows());
    const std::vector<float> zeros(count);
    const std::vector<float>& values = linear->bias ? linear->bias->values : zeros;
    bias.insert(bias.end(), values.begin(), values.end());
  }
  const bool any = std::ranges::any_of(
      linears, [](const StoredLinear* linear) { return linear->bias.has_value(); });
  return any ? bias : std::vector<float>();
}

LinearScales ScalesOf(const std::vector<StoredLinear*>& linears) {
  LinearScales scales = {.input = 0.0f};
  for (const StoredLinear* linear : linears) {
    NARROW_CHECK(linear->quantized());
    scales.weights.push_back(linear->weight_scale);
    // One input, one scale: serving engines take the largest of a fused group.
    scales.input = std::max(scales.input, *linear->input_scale);
  }
  return scales;
}

}  // namespace

int64_t RewriteRows(int64_t columns) {
  const int64_t fitting = kRewriteBytes / (columns * static_cast<int64_t>(sizeof(float)));
  if (fitting < kRoundingChunkRows) return std::max<int64_t>(1, fitting);
  return fitting / kRoundingChunkRows * kRoundingChunkRows;
}

bool HoldsExactly(ComputeType operands, Dtype stored) {
  return operands == ComputeType::kFloat32 || stored == Dtype::kBF16 || stored == Dtype::kF8E4M3;
}

int64_t PackedLayerBytes(const LayerSpec& spec, ComputeType compute) {
  return LayerWeightCount(spec) * OperandBytes(compute);
}

int64_t PackingBytes(const LayerSpec& spec, ComputeType compute) {
  return 2 * std::min(kPanelBytes, LargestGroupBytes(spec, compute));
}

int64_t RewritingBytes(const LayerSpec& spec, ComputeType compute) {
  constexpr int64_t kCodeBytes = kRewriteBytes / static_cast<int64_t>(sizeof(float));
  const int64_t group = LargestGroupBytes(spec, compute);
  return std::min(kPanelBytes, group) + std::min(kRewriteBytes + kCodeBytes, 3 * group);
}

template <typename T>
LoadedLayer<T>::LoadedLayer(StoredLayer stored) : stored_(std::move(stored)) {
  runnable_.attention_norm = ToBuffer(stored_.attention_norm.values);
  runnable_.mlp_norm = ToBuffer(stored_.mlp_norm.values);
  runnable_.cache = cache_ = stored_.cache;
  for (const LinearGroup group : kLinearGroups) PackGroup(group);
}

template <typename T>
void LoadedLayer<T>::PackGroup(LinearGroup group) {
  const auto g = static_cast<std::size_t>(group);
  const auto stored = LinearsOf(stored_, group);
  int64_t rows = 0;
  for (const StoredLinear* linear : stored) {
    linears_[g].push_back({linear->spec, rows});
    rows += linear->weight.rows();
  }
  const int64_t columns = stored.front()->weight.columns();
  PackedMatrix<T> packed(rows, columns);
  AlignedBuffer<T> panel(packed.panel_rows() * columns);
  for (int64_t p = 0; p < packed.panel_count(); ++p) {
    const int64_t first = p * packed.panel_rows();
    const MatrixView<T> view(panel.data(), std::min(packed.panel_rows(), rows - first), columns);
    ForLinearsAmong(stored, first, view, [&](StoredLinear& linear, int64_t row, MatrixView<T> out) {
      const AbsoluteMaximum maximum = LoadStoredRows<T>(linear.weight, row, out);
      if (!maximum.finite) {
        Fail(ErrorCode::kNumeric, "tensor {} holds NaN or infinity; the checkpoint is damaged",
             linear.weight.name());
      }
      for (LoadedLinear& loaded : linears_[g]) {
        if (loaded.spec.module == linear.spec.module) {
          loaded.weight_amax = std::max(loaded.weight_amax, maximum.amax);
        }
      }
    });
    packed.PackPanel(p, view);
  }
  std::vector<int64_t> counts;
  for (const StoredLinear* linear : stored) counts.push_back(linear->weight.rows());
  runnable_.linears[g] = FusedLinear<T>(std::move(packed), std::move(counts), BiasOf(stored));
  if (stored.front()->quantized()) runnable_.linears[g].Quantize(ScalesOf(stored));
  if (PackedExactly(group)) {
    for (StoredLinear* linear : stored) linear->weight.Release();
  }
}

template <typename T>
bool LoadedLayer<T>::PackedExactly(LinearGroup group) const {
  constexpr ComputeType kOperands =
      std::is_same_v<T, Bfloat16> ? ComputeType::kBfloat16 : ComputeType::kFloat32;
  return std::ranges::all_of(LinearsOf(stored_, group), [](const StoredLinear* linear) {
    return HoldsExactly(kOperands, linear->weight.dtype());
  });
}

template <typename T>
template <typename Load>
void LoadedLayer<T>::RewritePanels(LinearGroup group, const Load& load,
                                   const RowsRewriter& rewrite) {
  PackedMatrix<T>& packed = runnable_.Linear(group).weights();
  VisitPanels(
      packed,
      [&](int64_t first_row, MatrixView<T> unpacked, MatrixView<float> rows) {
        load(first_row, unpacked, rows);
        rewrite(first_row, rows);
        ParallelFor(rows.rows,
                    [&](int64_t row) { FromFloats(rows.RowSpan(row), unpacked.RowSpan(row)); });
      },
      [&](int64_t p, MatrixView<const T> panel) { packed.PackPanel(p, panel); });
}

template <typename T>
void LoadedLayer<T>::LoadRows(LinearGroup group, int64_t first_row, MatrixView<T> unpacked,
                              MatrixView<float> rows) const {
  if (PackedExactly(group)) {
    ParallelFor(rows.rows,
                [&](int64_t row) { ToFloats(unpacked.RowSpan(row), rows.RowSpan(row)); });
    return;
  }
  ForLinearsAmong(LinearsOf(stored_, group), first_row, rows,
                  [&](const StoredLinear& linear, int64_t row, MatrixView<float> out) {
                    LoadStoredRows<float>(linear.weight, row, out);
                  });
}

template <typename T>
void LoadedLayer<T>::Quantize(LinearGroup group, const LinearScales& scales,
                              const RowsRewriter& rewrite) {
  RewritePanels(
      group,
      [&](int64_t first_row, MatrixView<T> unpacked, MatrixView<float> rows) {
        LoadRows(group, first_row, unpacked, rows);
      },
      rewrite);
  for (StoredLinear* linear : LinearsOf(stored_, group)) linear->weight.Release();
  runnable_.Linear(group).Quantize(scales);
}

template <typename T>
void LoadedLayer<T>::Read(LinearGroup group, const RowsRewriter& read) const {
  VisitPanels(
      runnable_.Linear(group).weights(),
      [&](int64_t first_row, MatrixView<T> unpacked, MatrixView<float> rows) {
        LoadRows(group, first_row, unpacked, rows);
        read(first_row, rows);
      },
      [](int64_t, MatrixView<const T>) {});
}

template <typename T>
void LoadedLayer<T>::CopyUnchanged(const StoredBytesSink& sink) const {
  const auto copy = [&](const StoredVector& vector) { sink(vector.name, 0, vector.bytes.span()); };
  copy(stored_.attention_norm);
  copy(stored_.mlp_norm);
  for (const StoredLinear& linear : stored_.linears) {
    if (linear.bias) copy(*linear.bias);
  }
  for (const LinearGroup group : kLinearGroups) {
    if (!runnable_.Linear(group).scales()) CopyGroup(group, sink);
  }
}

template <typename T>
void LoadedLayer<T>::CopyGroup(LinearGroup group, const StoredBytesSink& sink) const {
  AlignedBuffer<std::byte> bytes;
  const auto linears = LinearsOf(stored_, group);
  const auto store = [&](const StoredLinear& linear, int64_t row, MatrixView<float> rows) {
    const Dtype dtype = linear.weight.dtype();
    const int64_t row_bytes = rows.columns * ElementBytes(dtype);
    const int64_t at_once = std::clamp<int64_t>(kCopyBytes / row_bytes, 1, rows.rows);
    if (bytes.size() < at_once * row_bytes) bytes = AlignedBuffer<std::byte>(at_once * row_bytes);
    const auto row_of = [&](int64_t i, int64_t count) {
      return bytes.span().subspan(static_cast<std::size_t>(i * row_bytes),
                                  static_cast<std::size_t>(count * row_bytes));
    };
    for (int64_t first = 0; first < rows.rows; first += at_once) {
      const int64_t count = std::min(at_once, rows.rows - first);
      ParallelFor(count,
                  [&](int64_t i) { StoreRow(dtype, rows.RowSpan(first + i), row_of(i, 1)); });
      sink(linear.weight.name(), (row + first) * row_bytes, row_of(0, count));
    }
  };
  Read(group, [&](int64_t first_row, MatrixView<float> rows) {
    ForLinearsAmong(linears, first_row, rows, store);
  });
}

template <typename T>
void LoadedLayer<T>::Requantize(LinearGroup group, const LinearScales& scales,
                                const RowsRewriter& rewrite) {
  RewritePanels(
      group,
      [&](int64_t, MatrixView<T> unpacked, MatrixView<float> rows) {
        ParallelFor(rows.rows,
                    [&](int64_t row) { ToFloats(unpacked.RowSpan(row), rows.RowSpan(row)); });
      },
      rewrite);
  runnable_.Linear(group).Quantize(scales);
  requantized_ = true;
}

template <typename T>
void LoadedLayer<T>::Run(LinearInputs inputs, CacheContents cache) {
  for (FusedLinear<T>& linear : runnable_.linears) {
    if (linear.scales()) linear.TakeInputs(inputs);
  }
  runnable_.cache = cache == CacheContents::kQuantized ? cache_ : std::nullopt;
}

template class LoadedLayer<float>;
template class LoadedLayer<Bfloat16>;

}  // namespace narrow
