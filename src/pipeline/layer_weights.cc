#include "pipeline/layer_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "kernels/elementwise.h"
#include "quantization/range.h"

namespace narrow {
namespace {

template <typename T>
std::span<const T> As(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

StoredMatrix ReadMatrix(const CheckpointReader& checkpoint, const std::string& name) {
  const CheckpointReader::TensorLocation& location = checkpoint.Get(name);
  StoredMatrix matrix;
  matrix.dtype = location.entry.dtype;
  matrix.rows = location.entry.shape.at(0);
  matrix.columns = location.entry.shape.at(1);
  matrix.bytes = AlignedBuffer<std::byte>(location.entry.bytes());
  checkpoint.Read(location, matrix.bytes.span());
  return matrix;
}

void DecodeRow(const QuantizationScheme& scheme, std::span<const std::byte> codes,
               std::span<float> out) {
  scheme.decode(codes, out);
}
void DecodeRow(const QuantizationScheme& scheme, std::span<const std::byte> codes,
               std::span<Bfloat16> out) {
  scheme.decode_bfloat16(codes, out);
}

StoredLinear ReadLinear(const CheckpointReader& checkpoint, const LinearSpec& spec) {
  StoredLinear linear;
  linear.spec = spec;
  linear.weight = ReadMatrix(checkpoint, spec.weight());
  if (spec.bias == Bias::kPresent) linear.bias = ReadFloats(checkpoint, spec.bias_name());
  if (linear.quantized()) {
    linear.weight_scale = ReadScale(checkpoint, spec.module + ".weight_scale");
    linear.input_scale = ReadScale(checkpoint, spec.module + ".input_scale");
  }
  return linear;
}

// Either spelling of the two export modes; nothing when the checkpoint has no cache scales.
std::optional<CacheQuantization> ReadCacheScales(const CheckpointReader& checkpoint,
                                                 const LayerSpec& spec) {
  std::string key = spec.attention_module + ".k_scale";
  std::string value = spec.attention_module + ".v_scale";
  if (checkpoint.Find(key) == nullptr) {
    for (const LinearSpec& linear : spec.linears) {
      if (linear.role == WeightRole::kKey) key = linear.module + ".output_scale";
      if (linear.role == WeightRole::kValue) value = linear.module + ".output_scale";
    }
  }
  if (checkpoint.Find(key) == nullptr) return std::nullopt;
  return CacheQuantization{ReadScale(checkpoint, key), ReadScale(checkpoint, value)};
}

// The linears of one group, stacked.
std::vector<const StoredLinear*> LinearsOf(const StoredLayer& layer, LinearGroup group) {
  std::vector<const StoredLinear*> linears;
  for (const StoredLinear& linear : layer.linears) {
    if (linear.spec.group == group) linears.push_back(&linear);
  }
  return linears;
}

// Rows [first, first + out.rows) of the stacked linears.
template <typename T>
void LoadStackedRows(const std::vector<const StoredLinear*>& linears,
                     const QuantizationScheme& scheme, int64_t first, MatrixView<T> out) {
  int64_t begin = 0;
  for (const StoredLinear* linear : linears) {
    const int64_t end = begin + linear->weight.rows;
    const int64_t from = std::max(first, begin);
    const int64_t to = std::min(first + out.rows, end);
    if (from < to) {
      LoadRows<T>(linear->weight, scheme, from - begin, out.RowBlock(from - first, to - from));
    }
    begin = end;
  }
}

template <typename T>
PackedMatrix<T> PackGroup(const std::vector<const StoredLinear*>& linears,
                          const QuantizationScheme& scheme) {
  int64_t rows = 0;
  for (const StoredLinear* linear : linears) rows += linear->weight.rows;
  const int64_t columns = linears.front()->weight.columns;
  PackedMatrix<T> packed(rows, columns);
  AlignedBuffer<T> panel(packed.panel_rows() * columns);
  for (int64_t p = 0; p < packed.panel_count(); ++p) {
    const int64_t first = p * packed.panel_rows();
    const MatrixView<T> view(panel.data(), std::min(packed.panel_rows(), rows - first), columns);
    LoadStackedRows<T>(linears, scheme, first, view);
    packed.PackPanel(p, view);
  }
  return packed;
}

std::optional<GroupQuantization> GroupScales(const std::vector<const StoredLinear*>& linears) {
  if (!linears.front()->quantized()) return std::nullopt;
  GroupQuantization scales;
  scales.input_scale = 0.0f;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    NARROW_CHECK(linears[i]->quantized());
    scales.weight_scales[i] = linears[i]->weight_scale;
    // One input, one scale: serving engines take the largest of a fused group.
    scales.input_scale = std::max(scales.input_scale, linears[i]->input_scale.value());
  }
  return scales;
}

std::vector<float> StackedBias(const std::vector<const StoredLinear*>& linears,
                               const std::optional<GroupQuantization>& quantization) {
  std::vector<float> bias;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    float divisor = 1.0f;
    if (quantization) divisor = quantization->input_scale * quantization->weight_scales[i];
    for (const float value : linears[i]->bias) bias.push_back(value / divisor);
  }
  return bias;
}

AlignedBuffer<float> ToBuffer(const std::vector<float>& values) {
  AlignedBuffer<float> buffer(static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), buffer.data());
  return buffer;
}

}  // namespace

void ConvertRow(Dtype dtype, std::span<const std::byte> bytes, std::span<float> out) {
  switch (dtype) {
    case Dtype::kF32:
      std::memcpy(out.data(), bytes.data(), bytes.size());
      return;
    case Dtype::kBF16:
      ConvertToFloat(As<Bfloat16>(bytes), out);
      return;
    case Dtype::kF16:
      ConvertToFloat(As<Float16>(bytes), out);
      return;
    default:
      Fail(ErrorCode::kInternal, "weights of type {} cannot be converted", Name(dtype));
  }
}

void ConvertRow(Dtype dtype, std::span<const std::byte> bytes, std::span<Bfloat16> out) {
  switch (dtype) {
    case Dtype::kF32:
      ConvertToBfloat16(As<float>(bytes), out);
      return;
    case Dtype::kBF16:
      std::memcpy(out.data(), bytes.data(), bytes.size());
      return;
    case Dtype::kF16:
      ConvertToBfloat16(As<Float16>(bytes), out);
      return;
    default:
      Fail(ErrorCode::kInternal, "weights of type {} cannot be converted", Name(dtype));
  }
}

std::span<const std::byte> StoredMatrix::RowBytes(int64_t first, int64_t count) const {
  const int64_t row_bytes = columns * ElementBytes(dtype);
  return bytes.span().subspan(static_cast<std::size_t>(first * row_bytes),
                              static_cast<std::size_t>(count * row_bytes));
}

std::vector<float> ReadFloats(const CheckpointReader& checkpoint, const std::string& name) {
  const CheckpointReader::TensorLocation& location = checkpoint.Get(name);
  AlignedBuffer<std::byte> bytes(location.entry.bytes());
  checkpoint.Read(location, bytes.span());
  std::vector<float> values(
      static_cast<std::size_t>(bytes.size() / ElementBytes(location.entry.dtype)));
  ConvertRow(location.entry.dtype, bytes.span(), values);
  if (!FindAbsoluteMaximum(values).finite) {
    Fail(ErrorCode::kNumeric, "tensor {} holds NaN or infinity; the checkpoint is damaged", name);
  }
  return values;
}

float ReadScale(const CheckpointReader& checkpoint, const std::string& name) {
  const CheckpointReader::TensorLocation& location = checkpoint.Get(name);
  const auto elements = CheckedProduct(location.entry.shape);
  const Dtype dtype = location.entry.dtype;
  if (elements != 1 || (dtype != Dtype::kF32 && dtype != Dtype::kBF16 && dtype != Dtype::kF16)) {
    Fail(ErrorCode::kCorruptInput, "scale {} must be one floating-point number, found {} of type {}",
         name, elements.value_or(-1), Name(dtype));
  }
  const float scale = ReadFloats(checkpoint, name).front();
  if (!(scale > 0.0f)) {
    Fail(ErrorCode::kNumeric, "scale {} is {}, expected a positive number", name, scale);
  }
  return scale;
}

StoredLayer ReadLayer(const CheckpointReader& checkpoint, const ModelFamily& family,
                      const DecoderConfig& config, int64_t layer) {
  StoredLayer stored;
  stored.spec = family.layer(config, layer);
  stored.attention_norm = ReadFloats(checkpoint, stored.spec.attention_norm.name);
  stored.mlp_norm = ReadFloats(checkpoint, stored.spec.mlp_norm.name);
  for (const LinearSpec& spec : stored.spec.linears) {
    stored.linears.push_back(ReadLinear(checkpoint, spec));
  }
  stored.cache = ReadCacheScales(checkpoint, stored.spec);
  return stored;
}

float WeightMaximum(const StoredMatrix& weight, const std::string& tensor) {
  std::vector<AbsoluteMaximum> rows(static_cast<std::size_t>(weight.rows));
  ParallelFor(weight.rows, [&](int64_t row) {
    const std::span<const std::byte> bytes = weight.RowBytes(row, 1);
    AbsoluteMaximum& maximum = rows[static_cast<std::size_t>(row)];
    switch (weight.dtype) {
      case Dtype::kF32:
        maximum = FindAbsoluteMaximum(As<float>(bytes));
        return;
      case Dtype::kBF16:
        maximum = FindAbsoluteMaximum(As<Bfloat16>(bytes));
        return;
      default:
        maximum = FindAbsoluteMaximum(As<Float16>(bytes));
    }
  });
  AbsoluteMaximum total;
  for (const AbsoluteMaximum& row : rows) total = Merge(total, row);
  if (!total.finite) {
    Fail(ErrorCode::kNumeric, "tensor {} holds NaN or infinity; the checkpoint is damaged", tensor);
  }
  return total.amax;
}

template <typename T>
void LoadRows(const StoredMatrix& weight, const QuantizationScheme& scheme, int64_t first,
              MatrixView<T> out) {
  ParallelFor(out.rows, [&](int64_t row) {
    const std::span<const std::byte> bytes = weight.RowBytes(first + row, 1);
    if (weight.dtype == scheme.dtype) {
      DecodeRow(scheme, bytes, out.RowSpan(row));
    } else {
      ConvertRow(weight.dtype, bytes, out.RowSpan(row));
    }
  });
}

template <typename T>
DecoderLayer<T> PackLayer(const StoredLayer& layer, const QuantizationScheme& scheme) {
  DecoderLayer<T> packed;
  packed.attention_norm = ToBuffer(layer.attention_norm);
  packed.mlp_norm = ToBuffer(layer.mlp_norm);
  packed.cache = layer.cache;
  for (const LinearGroup group : kLinearGroups) {
    const auto g = static_cast<std::size_t>(group);
    const std::vector<const StoredLinear*> linears = LinearsOf(layer, group);
    packed.weights[g] = PackGroup<T>(linears, scheme);
    packed.quantization[g] = GroupScales(linears);
    packed.weights[g].SetBias(StackedBias(linears, packed.quantization[g]));
  }
  return packed;
}

template void LoadRows<float>(const StoredMatrix&, const QuantizationScheme&, int64_t,
                              MatrixView<float>);
template void LoadRows<Bfloat16>(const StoredMatrix&, const QuantizationScheme&, int64_t,
                                 MatrixView<Bfloat16>);
template DecoderLayer<float> PackLayer<float>(const StoredLayer&, const QuantizationScheme&);
template DecoderLayer<Bfloat16> PackLayer<Bfloat16>(const StoredLayer&, const QuantizationScheme&);

}  // namespace narrow
