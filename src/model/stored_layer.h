// The weights of one decoder layer as they lie in the checkpoint.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "device/operands.h"
#include "io/checkpoint_reader.h"
#include "kernels/float8.h"
#include "model/config.h"
#include "model/decoder_layer.h"
#include "model/family.h"
#include "model/source_schemes.h"

namespace narrow {

// A matrix in its storage type, read ahead into memory or still on disk.
class StoredMatrix {
 public:
  StoredMatrix() = default;
  // REQUIRES: the tensor is a matrix. `checkpoint` outlives the object.
  StoredMatrix(const CheckpointReader& checkpoint, const std::string& name);
  // The weights of a linear, which may be a part of a tensor. REQUIRES: its shape is that of the
  // part.
  StoredMatrix(const CheckpointReader& checkpoint, const LinearSpec& linear);

  const std::string& name() const { return location_->entry.name; }
  Dtype dtype() const { return location_->entry.dtype; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t bytes() const { return rows_ * columns_ * ElementBytes(dtype()); }

  void ReadAhead();
  void Release() { memory_ = {}; }
  // Rows [first, first + count); they live in this object, or in `scratch` when they came from
  // disk.
  std::span<const std::byte> Rows(int64_t first, int64_t count,
                                  AlignedBuffer<std::byte>& scratch) const;

 private:
  // Its rows follow one another in the tensor.
  bool contiguous() const { return !part_ || (!part_->transposed && part_->row_step == 1); }
  void ReadPart(std::span<std::byte> out) const;

  const CheckpointReader* checkpoint_ = nullptr;
  const CheckpointReader::TensorLocation* location_ = nullptr;
  std::optional<TensorPart> part_;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  AlignedBuffer<std::byte> memory_;  // empty: on disk
};

// A norm or a bias: as it lies in the checkpoint, and as numbers.
struct StoredVector {
  std::string name;
  AlignedBuffer<std::byte> bytes;
  std::vector<float> values;
};

// One linear as stored: numbers, or codes with what they mean.
struct StoredLinear {
  LinearSpec spec;
  StoredMatrix weight;  // of codes it has their shape, not that of the linear
  std::optional<StoredVector> bias;
  std::optional<StoredQuantization> quantization;
  // Codes become numbers of this type, and the linear is as if it were stored so.
  std::optional<Dtype> dequantized;

  bool quantized() const { return quantization.has_value() && !dequantized; }
  // Of its numbers, where it is not quantized.
  Dtype dtype() const { return dequantized.value_or(weight.dtype()); }
};

struct StoredNorm {
  StoredVector weight;
  std::optional<StoredVector> bias;
};

struct StoredLayer {
  LayerSpec spec;
  std::array<std::optional<StoredNorm>, kNormPlaceCount> norms;  // where the spec has them
  std::vector<StoredLinear> linears;                             // in the order of the spec
  std::vector<StoredVector> plain;                               // PlainTensors of it
  std::optional<CacheQuantization> cache;
};

// Opens a layer, or what is like one, such as an expert (ExpertLayer): BF16, F16 or F32 tensors, or
// codes with the scales beside them. Matrices are read ahead, in the order they are used, as long
// as they fit `read_ahead_bytes`; the rest stay on disk. With a type, codes are not to be run: they
// become numbers of it, from which something else is made. `schemes`: of the checkpoint. Throws:
// kNumeric naming the tensor when a norm or bias is not finite, or a scale not positive; as
// SourceSchemes::Open.
StoredLayer OpenLayer(const CheckpointReader& checkpoint, const SourceSchemes& schemes,
                      LayerSpec spec, int64_t read_ahead_bytes,
                      std::optional<Dtype> dequantized = {});

// Reads every scale of the FP8 linears of a checkpoint whose config states no schemes, and of the
// KV cache: a few bytes each. Throws: as ReadScale.
void CheckScaleValues(const CheckpointReader& checkpoint, const ModelFamily& family,
                      const DecoderConfig& config);

// A tensor of any supported floating type as f32. Throws: as CheckpointReader::Read, and kNumeric
// naming the tensor when a value is not finite.
std::vector<float> ReadFloats(const CheckpointReader& checkpoint, const std::string& name);

// Weight and bias of a norm, and the norm itself.
StoredNorm ReadNorm(const CheckpointReader& checkpoint, const NormSpec& spec);
Norm MakeNorm(const NormSpec& spec, const StoredNorm& stored);

// The same with the bytes it was made from.
StoredVector ReadVector(const CheckpointReader& checkpoint, const std::string& name);

// The bias of a linear, which may be a part of a tensor: then without bytes. REQUIRES: it has one.
StoredVector ReadBias(const CheckpointReader& checkpoint, const LinearSpec& linear);

// Largest magnitude of BF16, F16 or F32 numbers; 0 for codes, whose scales say it.
AbsoluteMaximum FindMaximum(Dtype dtype, std::span<const std::byte> bytes);

// Throws: kNumeric naming `tensor` when its numbers or codes hold NaN or infinity.
void CheckFinite(Dtype dtype, std::span<const std::byte> bytes, const std::string& tensor);

// A single positive, normal number; or any number of them. Throws: kCorruptInput, kNumeric, naming
// the tensor.
float ReadScale(const CheckpointReader& checkpoint, const std::string& name);
std::vector<float> ReadScales(const CheckpointReader& checkpoint, const std::string& name);

// Bytes of BF16, F16 or F32 numbers as `out`, rounding to nearest even where it is narrower.
// REQUIRES: bytes.size() == out.size() * ElementBytes(dtype).
void ConvertRow(Dtype dtype, std::span<const std::byte> bytes, std::span<float> out);
void ConvertRow(Dtype dtype, std::span<const std::byte> bytes, Operands row);

// The inverse of ConvertRow to f32, exact for what came from it.
// REQUIRES: bytes.size() == values.size() * ElementBytes(dtype).
void StoreRow(Dtype dtype, std::span<const float> values, std::span<std::byte> bytes);

}  // namespace narrow
