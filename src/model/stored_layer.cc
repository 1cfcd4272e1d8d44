#include "model/stored_layer.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/checked_math.h"
#include "kernels/elementwise.h"
#include "kernels/finite.h"
#include "kernels/float8.h"
#include "model/cache_scales.h"

namespace narrow {
namespace {

template <typename T>
std::span<const T> As(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

[[noreturn]] void FailNoScale(const SafetensorsEntry& entry, int64_t elements) {
  Fail(ErrorCode::kCorruptInput, "scale {} must be one floating-point number, found {} of type {}",
       entry.name, elements, Name(entry.dtype));
}

StoredLinear OpenLinear(const CheckpointReader& checkpoint, const SourceSchemes& schemes,
                        const LinearSpec& spec) {
  StoredLinear linear;
  linear.spec = spec;
  linear.quantization = schemes.Open(spec.module);
  linear.weight = linear.quantization
                      ? StoredMatrix(checkpoint, linear.quantization->weight.codes())
                      : StoredMatrix(checkpoint, spec);
  if (spec.bias == Bias::kPresent) linear.bias = ReadBias(checkpoint, spec);
  return linear;
}

// Nothing when the checkpoint has no cache scales.
std::optional<CacheQuantization> ReadCacheScales(const CheckpointReader& checkpoint,
                                                 const LayerSpec& spec) {
  if (!spec.caches()) return std::nullopt;
  const auto names = FindCacheScales(checkpoint, spec);
  if (!names) return std::nullopt;
  if (spec.attention.As<LatentHeads>() != nullptr) return ServedLatentCache();
  CacheQuantization cache;
  const auto read = [&](const std::string& name, float& one, std::vector<float>& of_heads) {
    std::vector<float> scales = ReadScales(checkpoint, name);
    if (scales.size() == 1) {
      one = scales.front();
    } else {
      of_heads = std::move(scales);
    }
  };
  read(names->key, cache.key_scale, cache.key_scales);
  read(names->value, cache.value_scale, cache.value_scales);
  const auto query = FindQueryScale(checkpoint, spec);
  // vLLM takes the largest of several.
  if (query) cache.query_scale = std::ranges::max(ReadScales(checkpoint, *query));
  return cache;
}

}  // namespace

StoredMatrix::StoredMatrix(const CheckpointReader& checkpoint, const std::string& name)
    : checkpoint_(&checkpoint), location_(&checkpoint.Get(name)) {
  NARROW_CHECK(location_->entry.shape.size() == 2);
  rows_ = location_->entry.shape[0];
  columns_ = location_->entry.shape[1];
}

StoredMatrix::StoredMatrix(const CheckpointReader& checkpoint, const LinearSpec& linear)
    : checkpoint_(&checkpoint),
      location_(&checkpoint.Get(linear.part ? linear.part->tensor : linear.weight())),
      part_(linear.part),
      rows_(linear.rows),
      columns_(linear.columns) {
  const Shape& shape = location_->entry.shape;
  NARROW_CHECK(shape == (part_ ? PartShape(*part_, columns_) : Shape{rows_, columns_}));
}

void StoredMatrix::ReadAhead() {
  memory_ = AlignedBuffer<std::byte>(bytes());
  if (part_) {
    ReadPart(memory_.span());
  } else {
    checkpoint_->Read(*location_, memory_.span());
  }
}

// Rows that do not follow one another are picked from all of the expert's.
void StoredMatrix::ReadPart(std::span<std::byte> out) const {
  const int64_t element = ElementBytes(dtype());
  const int64_t expert = part_->expert * part_->rows * columns_ * element;
  if (contiguous()) {
    return checkpoint_->ReadPart(*location_, expert + part_->first_row * columns_ * element, out);
  }
  AlignedBuffer<std::byte> whole(part_->rows * columns_ * element);
  checkpoint_->ReadPart(*location_, expert, whole.span());
  // Not on all threads: this happens ahead, beside what they do.
  for (int64_t r = 0; r < rows_; ++r) {
    const int64_t row = part_->first_row + r * part_->row_step;
    std::byte* to = out.data() + r * columns_ * element;
    for (int64_t c = 0; c < columns_; ++c) {
      const int64_t from = part_->transposed ? c * part_->rows + row : row * columns_ + c;
      std::memcpy(to + c * element, whole.data() + from * element,
                  static_cast<std::size_t>(element));
    }
  }
}

std::span<const std::byte> StoredMatrix::Rows(int64_t first, int64_t count,
                                              AlignedBuffer<std::byte>& scratch) const {
  const int64_t row_bytes = columns() * ElementBytes(dtype());
  const auto size = static_cast<std::size_t>(count * row_bytes);
  if (memory_.size() > 0) {
    return memory_.span().subspan(static_cast<std::size_t>(first * row_bytes), size);
  }
  if (!contiguous()) {
    scratch = AlignedBuffer<std::byte>(bytes());
    ReadPart(scratch.span());
    return scratch.span().subspan(static_cast<std::size_t>(first * row_bytes), size);
  }
  if (scratch.size() < count * row_bytes) scratch = AlignedBuffer<std::byte>(count * row_bytes);
  const std::span<std::byte> rows = scratch.span().first(size);
  const int64_t before = part_ ? part_->expert * part_->rows + part_->first_row : 0;
  checkpoint_->ReadPart(*location_, (before + first) * row_bytes, rows);
  return rows;
}

StoredLayer OpenLayer(const CheckpointReader& checkpoint, const SourceSchemes& schemes,
                      LayerSpec spec, int64_t read_ahead_bytes, std::optional<Dtype> dequantized) {
  StoredLayer stored;
  stored.spec = std::move(spec);
  for (std::size_t place = 0; place < kNormPlaceCount; ++place) {
    const std::optional<NormSpec>& norm = stored.spec.norms[place];
    if (norm) stored.norms[place] = ReadNorm(checkpoint, *norm);
  }
  for (const PlainTensor& tensor : PlainTensors(stored.spec)) {
    stored.plain.push_back(ReadVector(checkpoint, tensor.name));
  }
  for (const LinearSpec& linear_spec : stored.spec.linears) {
    StoredLinear& linear =
        stored.linears.emplace_back(OpenLinear(checkpoint, schemes, linear_spec));
    if (linear.quantization) linear.dequantized = dequantized;
    if (linear.weight.bytes() > read_ahead_bytes) {
      read_ahead_bytes = 0;  // what comes later is used later: keep to the order
    } else {
      linear.weight.ReadAhead();
      read_ahead_bytes -= linear.weight.bytes();
    }
  }
  if (!dequantized && !stored.spec.attention_module.empty()) {
    stored.cache = ReadCacheScales(checkpoint, stored.spec);
  }
  return stored;
}

void CheckScaleValues(const CheckpointReader& checkpoint, const ModelFamily& family,
                      const DecoderConfig& config) {
  const bool stated = SourceSchemes(checkpoint).stated();
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerSpec layer = WithExperts(family.layer(config, i));
    for (const LinearSpec& linear : layer.linears) {
      if (stated) break;
      if (linear.part || checkpoint.Get(linear.weight()).entry.dtype != Dtype::kF8E4M3) continue;
      ReadScale(checkpoint, linear.module + ".weight_scale");
      ReadScale(checkpoint, linear.module + ".input_scale");
    }
    ReadCacheScales(checkpoint, layer);
  }
}

StoredVector ReadVector(const CheckpointReader& checkpoint, const std::string& name) {
  const CheckpointReader::TensorLocation& location = checkpoint.Get(name);
  const Dtype dtype = location.entry.dtype;
  StoredVector vector = {name, AlignedBuffer<std::byte>(location.entry.bytes()), {}};
  checkpoint.Read(location, vector.bytes.span());
  CheckFinite(dtype, vector.bytes.span(), name);
  vector.values.resize(static_cast<std::size_t>(vector.bytes.size() / ElementBytes(dtype)));
  ConvertRow(dtype, vector.bytes.span(), std::span<float>(vector.values));
  return vector;
}

StoredVector ReadBias(const CheckpointReader& checkpoint, const LinearSpec& linear) {
  if (!linear.part) return ReadVector(checkpoint, linear.bias_name());
  const TensorPart& part = *linear.part;
  const CheckpointReader::TensorLocation& location = checkpoint.Get(part.bias);
  const Dtype dtype = location.entry.dtype;
  AlignedBuffer<std::byte> bytes(part.rows * ElementBytes(dtype));
  checkpoint.ReadPart(location, part.expert * bytes.size(), bytes.span());
  CheckFinite(dtype, bytes.span(), part.bias);
  std::vector<float> all(static_cast<std::size_t>(part.rows));
  ConvertRow(dtype, bytes.span(), std::span<float>(all));
  StoredVector bias = {part.bias, {}, {}};
  for (int64_t r = 0; r < linear.rows; ++r) {
    bias.values.push_back(all[static_cast<std::size_t>(part.first_row + r * part.row_step)]);
  }
  return bias;
}

StoredNorm ReadNorm(const CheckpointReader& checkpoint, const NormSpec& spec) {
  StoredNorm norm;
  if (spec.weight.empty()) {
    norm.weight.values.assign(static_cast<std::size_t>(spec.size), 1.0f);
  } else {
    norm.weight = ReadVector(checkpoint, spec.weight);
  }
  if (!spec.bias.empty()) norm.bias = ReadVector(checkpoint, spec.bias);
  return norm;
}

Norm MakeNorm(const NormSpec& spec, const StoredNorm& stored) {
  return Norm(spec, stored.weight.values,
              stored.bias ? std::span<const float>(stored.bias->values) : std::span<const float>());
}

std::vector<float> ReadFloats(const CheckpointReader& checkpoint, const std::string& name) {
  return ReadVector(checkpoint, name).values;
}

void CheckFinite(Dtype dtype, std::span<const std::byte> bytes, const std::string& tensor) {
  if (!AllFinite(dtype, bytes)) {
    Fail(ErrorCode::kNumeric, "tensor {} holds NaN or infinity; the checkpoint is damaged", tensor);
  }
}

AbsoluteMaximum FindMaximum(Dtype dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case Dtype::kF32:
      return FindAbsoluteMaximum(As<float>(bytes));
    case Dtype::kBF16:
      return FindAbsoluteMaximum(As<Bfloat16>(bytes));
    case Dtype::kF16:
      return FindAbsoluteMaximum(As<Float16>(bytes));
    default:
      return {.finite = AllFinite(dtype, bytes)};
  }
}

float ReadScale(const CheckpointReader& checkpoint, const std::string& name) {
  const SafetensorsEntry& entry = checkpoint.Get(name).entry;
  const auto elements = CheckedProduct(entry.shape);
  if (elements != 1) FailNoScale(entry, elements.value_or(-1));
  return ReadScales(checkpoint, name).front();
}

std::vector<float> ReadScales(const CheckpointReader& checkpoint, const std::string& name) {
  const SafetensorsEntry& entry = checkpoint.Get(name).entry;
  const auto elements = CheckedProduct(entry.shape);
  if (elements.value_or(0) < 1 ||
      (entry.dtype != Dtype::kF32 && entry.dtype != Dtype::kBF16 && entry.dtype != Dtype::kF16)) {
    FailNoScale(entry, elements.value_or(-1));
  }
  std::vector<float> scales = ReadFloats(checkpoint, name);
  for (const float scale : scales) {
    if (scale >= std::numeric_limits<float>::min()) continue;
    Fail(ErrorCode::kNumeric,
         "scale {} is {}, expected a positive number that is not denormal (1.2e-38 at least); the "
         "checkpoint is damaged",
         name, scale);
  }
  return scales;
}

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

void ConvertRow(Dtype dtype, std::span<const std::byte> bytes, Operands row) {
  if (row.type == ComputeType::kFloat32) {
    return ConvertRow(dtype, bytes, row.As<float>().RowSpan(0));
  }
  const std::span<Bfloat16> out = row.As<Bfloat16>().RowSpan(0);
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

void StoreRow(Dtype dtype, std::span<const float> values, std::span<std::byte> bytes) {
  NARROW_CHECK(bytes.size() == values.size() * static_cast<std::size_t>(ElementBytes(dtype)));
  switch (dtype) {
    case Dtype::kF32:
      std::memcpy(bytes.data(), values.data(), bytes.size());
      return;
    case Dtype::kBF16:
      ConvertToBfloat16(values, {reinterpret_cast<Bfloat16*>(bytes.data()), values.size()});
      return;
    case Dtype::kF16:
      std::ranges::transform(values, reinterpret_cast<Float16*>(bytes.data()), ToFloat16);
      return;
    default:
      Fail(ErrorCode::kInternal, "numbers cannot be stored as {}", Name(dtype));
  }
}

}  // namespace narrow
