#include "model/loaded_layer.h"

#include <algorithm>
#include <utility>

#include "base/parallel.h"
#include "device/operations.h"
#include "kernels/float8.h"

namespace narrow {
namespace {

constexpr int64_t kCopyBytes = int64_t{16} << 20;  // of weights that are handed over as stored

// Rows of a quantized linear as numbers of a type, rounded to nearest even.
AbsoluteMaximum DequantizeRow(const StoredLinear& linear, int64_t row,
                              std::span<const std::byte> bytes, Operands out) {
  thread_local std::vector<float> numbers;
  thread_local std::vector<std::byte> stored;
  const Dtype type = *linear.dequantized;
  numbers.resize(static_cast<std::size_t>(out.columns));
  stored.resize(numbers.size() * static_cast<std::size_t>(ElementBytes(type)));
  linear.quantization->weight.DecodeRows(row, bytes, numbers);
  StoreRow(type, numbers, stored);
  ConvertRow(type, stored, out);
  return FindMaximum(type, stored);
}

// Rows of a quantized linear as the numbers that its scales multiply.
AbsoluteMaximum DecodeRow(const StoredQuantization& quantization, int64_t row,
                          std::span<const std::byte> bytes, Operands out) {
  thread_local std::vector<float> numbers;
  numbers.resize(static_cast<std::size_t>(out.columns));
  quantization.weight.DecodeNumbers(row, bytes, numbers);
  FromFloats({numbers.data(), 1, out.columns}, out);
  return FindAbsoluteMaximum(std::span<const float>(numbers));
}

// Rows [first, first + out.rows) of one stored linear as numbers (codes without their scale).
AbsoluteMaximum LoadStoredRows(const StoredLinear& linear, int64_t first, Operands out) {
  const StoredMatrix& weight = linear.weight;
  AlignedBuffer<std::byte> scratch;
  const std::span<const std::byte> bytes = weight.Rows(first, out.rows, scratch);
  const std::size_t row_bytes = bytes.size() / static_cast<std::size_t>(out.rows);
  std::vector<AbsoluteMaximum> maxima(static_cast<std::size_t>(out.rows));
  ParallelFor(out.rows, [&](int64_t row) {
    const auto r = static_cast<std::size_t>(row);
    const std::span<const std::byte> row_data = bytes.subspan(r * row_bytes, row_bytes);
    if (linear.dequantized) {
      maxima[r] = DequantizeRow(linear, first + row, row_data, out.RowBlock(row, 1));
    } else if (linear.quantization) {
      maxima[r] = DecodeRow(*linear.quantization, first + row, row_data, out.RowBlock(row, 1));
    } else {
      ConvertRow(weight.dtype(), row_data, out.RowBlock(row, 1));
      maxima[r] = FindMaximum(weight.dtype(), row_data);
    }
  });
  AbsoluteMaximum total;
  for (const AbsoluteMaximum& maximum : maxima) total = Merge(total, maximum);
  return total;
}

// Rows that are shown as f32 together.
int64_t RowsShown(const PackedWeights& packed) {
  return std::min(RewriteRows(packed.columns()), packed.panel_rows());
}

// Unpacks a matrix panel by panel and calls chunk(first row, rows as they are packed, memory for
// the same rows as f32) for parts of each, then done(panel, its rows).
template <typename Chunk, typename Done>
void VisitPanels(const PackedWeights& packed, const Chunk& chunk, const Done& done) {
  const int64_t columns = packed.columns();
  OperandBuffer memory;
  const Operands panel = memory.Reserve(packed.type(), packed.panel_rows(), columns);
  const int64_t chunk_rows = RowsShown(packed);
  AlignedBuffer<float> floats(chunk_rows * columns);
  for (int64_t p = 0; p < packed.panel_count(); ++p) {
    const int64_t panel_first = p * packed.panel_rows();
    const int64_t panel_count = std::min(packed.panel_rows(), packed.rows() - panel_first);
    const Operands view = panel.RowBlock(0, panel_count);
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
    const int64_t end = begin + linear->spec.rows;
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
    const auto count = static_cast<std::size_t>(linear->spec.rows);
    const std::vector<float> zeros(count);
    const std::vector<float>& values = linear->bias ? linear->bias->values : zeros;
    bias.insert(bias.end(), values.begin(), values.end());
  }
  const bool any = std::ranges::any_of(
      linears, [](const StoredLinear* linear) { return linear->bias.has_value(); });
  return any ? bias : std::vector<float>();
}

LinearScales ScalesOf(const std::vector<StoredLinear*>& linears) {
  std::vector<const LinearInput*> inputs;
  std::vector<std::vector<float>> of_linears;
  bool by_row = false;
  for (const StoredLinear* linear : linears) {
    NARROW_CHECK(linear->quantized());
    inputs.push_back(&linear->quantization->input);
    of_linears.push_back(linear->quantization->weight.RowScales());
    by_row = by_row || of_linears.back().size() > 1;
  }
  LinearScales scales = {MergeInputs(inputs, linears.front()->spec.module), {}};
  for (std::size_t i = 0; i < linears.size(); ++i) {
    std::vector<float>& added = of_linears[i];
    if (by_row && added.size() == 1) {
      added.resize(static_cast<std::size_t>(linears[i]->spec.rows), added.front());
    }
    scales.weights.insert(scales.weights.end(), added.begin(), added.end());
  }
  return scales;
}

}  // namespace

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

LoadedLayer::LoadedLayer(StoredLayer stored, ComputeType compute)
    : stored_(std::move(stored)), compute_(compute) {
  runnable_.spec = stored_.spec;
  for (std::size_t place = 0; place < kNormPlaceCount; ++place) {
    const std::optional<NormSpec>& norm = stored_.spec.norms[place];
    if (norm) runnable_.norms[place] = MakeNorm(*norm, *stored_.norms[place]);
  }
  for (const StoredVector& tensor : stored_.plain) runnable_.plain[tensor.name] = tensor.values;
  runnable_.cache = cache_ = stored_.cache;
  for (const GroupSpec& group : GroupsOf(stored_.spec)) PackGroup(group.id);
}

void LoadedLayer::PackGroup(LinearGroup group) {
  const auto g = static_cast<std::size_t>(group);
  const auto stored = LinearsOf(stored_, group);
  if (stored.empty()) return;
  int64_t rows = 0;
  for (const StoredLinear* linear : stored) {
    LoadedLinear& loaded = linears_[g].emplace_back();
    loaded.spec = linear->spec;
    loaded.first_row = rows;
    if (!linear->quantized()) loaded.stored = linear->dtype();
    rows += linear->spec.rows;
  }
  const int64_t columns = stored.front()->spec.columns;
  PackedWeights packed(compute_, rows, columns);
  OperandBuffer memory;
  const Operands panel = memory.Reserve(compute_, packed.panel_rows(), columns);
  for (int64_t p = 0; p < packed.panel_count(); ++p) {
    const int64_t first = p * packed.panel_rows();
    const Operands view = panel.RowBlock(0, std::min(packed.panel_rows(), rows - first));
    ForLinearsAmong(stored, first, view, [&](StoredLinear& linear, int64_t row, Operands out) {
      const AbsoluteMaximum maximum = LoadStoredRows(linear, row, out);
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
  for (const StoredLinear* linear : stored) counts.push_back(linear->spec.rows);
  runnable_.linears[g] = FusedLinear(std::move(packed), std::move(counts), BiasOf(stored));
  if (stored.front()->quantized()) runnable_.linears[g].Quantize(ScalesOf(stored));
  if (PackedExactly(group)) {
    for (StoredLinear* linear : stored) linear->weight.Release();
  }
}

bool LoadedLayer::PackedExactly(LinearGroup group) const {
  return std::ranges::all_of(LinearsOf(stored_, group), [&](const StoredLinear* linear) {
    return linear->quantized() || HoldsExactly(compute_, linear->dtype());
  });
}

template <typename Load>
void LoadedLayer::RewritePanels(LinearGroup group, const Load& load, const RowsRewriter& rewrite) {
  PackedWeights& packed = runnable_.Linear(group).weights();
  VisitPanels(
      packed,
      [&](int64_t first_row, Operands unpacked, MatrixView<float> rows) {
        load(first_row, unpacked, rows);
        rewrite(first_row, rows);
        ParallelFor(rows.rows, [&](int64_t row) {
          FromFloats(rows.RowBlock(row, 1), unpacked.RowBlock(row, 1));
        });
      },
      [&](int64_t p, ConstOperands panel) { packed.PackPanel(p, panel); });
}

void LoadedLayer::LoadRows(LinearGroup group, int64_t first_row, Operands unpacked,
                           MatrixView<float> rows) const {
  if (PackedExactly(group)) {
    ParallelFor(rows.rows,
                [&](int64_t row) { ToFloats(unpacked.RowBlock(row, 1), rows.RowBlock(row, 1)); });
    return;
  }
  ForLinearsAmong(LinearsOf(stored_, group), first_row, rows,
                  [&](const StoredLinear& linear, int64_t row, MatrixView<float> out) {
                    LoadStoredRows(linear, row, out);
                  });
}

void LoadedLayer::Quantize(LinearGroup group, const LinearScales& scales,
                           const RowsRewriter& rewrite) {
  RewritePanels(
      group,
      [&](int64_t first_row, Operands unpacked, MatrixView<float> rows) {
        LoadRows(group, first_row, unpacked, rows);
      },
      rewrite);
  for (StoredLinear* linear : LinearsOf(stored_, group)) linear->weight.Release();
  runnable_.Linear(group).Quantize(scales);
}

void LoadedLayer::Read(LinearGroup group, const RowsRewriter& read) const {
  VisitPanels(
      runnable_.Linear(group).weights(),
      [&](int64_t first_row, Operands unpacked, MatrixView<float> rows) {
        LoadRows(group, first_row, unpacked, rows);
        read(first_row, rows);
      },
      [](int64_t, ConstOperands) {});
}

void LoadedLayer::CopyUnchanged(const StoredBytesSink& sink) const {
  const auto copy = [&](const StoredVector& vector) { sink(vector.name, 0, vector.bytes.span()); };
  for (const std::optional<StoredNorm>& norm : stored_.norms) {
    if (norm && !norm->weight.name.empty()) copy(norm->weight);
    if (norm && norm->bias) copy(*norm->bias);
  }
  for (const StoredVector& tensor : stored_.plain) copy(tensor);
  for (const StoredLinear& linear : stored_.linears) {
    if (linear.bias && !linear.spec.part) copy(*linear.bias);
  }
  for (const GroupSpec& group : GroupsOf(stored_.spec)) {
    if (group.linears.front().part) continue;
    if (!runnable_.Linear(group.id).scales()) CopyGroup(group.id, sink);
  }
}

void LoadedLayer::CopyGroup(LinearGroup group, const StoredBytesSink& sink) const {
  AlignedBuffer<std::byte> bytes;
  const auto linears = LinearsOf(stored_, group);
  const auto store = [&](const StoredLinear& linear, int64_t row, MatrixView<float> rows) {
    const Dtype dtype = linear.dtype();
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
      sink(linear.spec.weight(), (row + first) * row_bytes, row_of(0, count));
    }
  };
  Read(group, [&](int64_t first_row, MatrixView<float> rows) {
    ForLinearsAmong(linears, first_row, rows, store);
  });
}

void LoadedLayer::Requantize(LinearGroup group, const LinearScales& scales,
                             const RowsRewriter& rewrite) {
  RewritePanels(
      group,
      [&](int64_t, Operands unpacked, MatrixView<float> rows) {
        ParallelFor(rows.rows, [&](int64_t row) {
          ToFloats(unpacked.RowBlock(row, 1), rows.RowBlock(row, 1));
        });
      },
      rewrite);
  runnable_.Linear(group).Quantize(scales);
  requantized_ = true;
}

bool LoadedLayer::StoredAsFloat8Tensors(LinearGroup group) const {
  return std::ranges::all_of(LinearsOf(stored_, group), [](const StoredLinear* linear) {
    if (!linear->quantized()) return false;
    const TensorScheme& scheme = linear->quantization->weight.scheme();
    return scheme.code == Code::kE4M3 && scheme.block == BlockShape{0, 0};
  });
}

bool LoadedLayer::StoredWithDivisors(LinearGroup group) const {
  return std::ranges::all_of(LinearsOf(stored_, group), [](const StoredLinear* linear) {
    if (!linear->quantized()) return false;
    const std::vector<std::string>& tensors = linear->quantization->weight.tensors();
    return std::ranges::count(tensors, linear->spec.module + ".weight_global_scale") > 0;
  });
}

void LoadedLayer::Rescale(LinearGroup group, const LinearScales& scales) {
  runnable_.Linear(group).Quantize(scales);
  requantized_ = true;
}

void LoadedLayer::Run(LinearInputs inputs, CacheContents cache, AttentionArithmetic attention) {
  for (FusedLinear& linear : runnable_.linears) {
    if (linear.scales()) linear.TakeInputs(inputs);
  }
  runnable_.cache = cache == CacheContents::kQuantized ? cache_ : std::nullopt;
  runnable_.attention = attention;
}

}  // namespace narrow
