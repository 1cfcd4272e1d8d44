// The weights of one decoder layer as they lie in the checkpoint, and as a layer that runs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "kernels/float8.h"
#include "model/config.h"
#include "model/decoder_layer.h"
#include "model/family.h"
#include "quantization/scheme.h"

namespace narrow {

// A matrix in its storage type.
struct StoredMatrix {
  Dtype dtype = Dtype::kBF16;
  int64_t rows = 0;
  int64_t columns = 0;
  AlignedBuffer<std::byte> bytes;

  std::span<const std::byte> RowBytes(int64_t first, int64_t count) const;
};

// One linear as stored. Scales are there when the matrix holds FP8 codes.
struct StoredLinear {
  LinearSpec spec;
  StoredMatrix weight;
  std::vector<float> bias;  // empty without one
  float weight_scale = 1.0f;
  std::optional<float> input_scale;

  bool quantized() const { return weight.dtype == Dtype::kF8E4M3; }
};

struct StoredLayer {
  LayerSpec spec;
  std::vector<float> attention_norm;
  std::vector<float> mlp_norm;
  std::vector<StoredLinear> linears;  // in the order of the spec
  std::optional<CacheQuantization> cache;
};

// Reads a layer: BF16, F16 or F32 tensors, or FP8 codes with the scales beside them.
// Throws: kNumeric naming the tensor when a norm or bias is not finite, or a scale not positive.
StoredLayer ReadLayer(const CheckpointReader& checkpoint, const ModelFamily& family,
                      const DecoderConfig& config, int64_t layer);

// A tensor of any supported floating type as f32. Throws: as CheckpointReader::Read, and kNumeric
// naming the tensor when a value is not finite.
std::vector<float> ReadFloats(const CheckpointReader& checkpoint, const std::string& name);

// A single positive, finite number. Throws: kCorruptInput, kNumeric, naming the tensor.
float ReadScale(const CheckpointReader& checkpoint, const std::string& name);

// Largest magnitude of a matrix. Throws: kNumeric naming `tensor` when it holds NaN or infinity.
float WeightMaximum(const StoredMatrix& weight, const std::string& tensor);

// Rows [first, first + out.rows) as numbers; FP8 codes are decoded without their scale.
template <typename T>
void LoadRows(const StoredMatrix& weight, const QuantizationScheme& scheme, int64_t first,
              MatrixView<T> out);

// Bytes of BF16, F16 or F32 numbers as `out`, rounding to nearest even where it is narrower.
// REQUIRES: bytes.size() == out.size() * ElementBytes(dtype).
void ConvertRow(Dtype dtype, std::span<const std::byte> bytes, std::span<float> out);
void ConvertRow(Dtype dtype, std::span<const std::byte> bytes, std::span<Bfloat16> out);

// Packs the linears of every group. FP8 linears become E4M3 numbers with their scales in
// `quantization`; a bias beside them is divided by the scales that multiply it later.
// REQUIRES: the linears of a group are all FP8 or none is.
template <typename T>
DecoderLayer<T> PackLayer(const StoredLayer& layer, const QuantizationScheme& scheme);

}  // namespace narrow
