// A linear's weight as any of the readable formats keeps it, as rows of numbers.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "schemes/tensor_scheme.h"

namespace narrow {

// Which rows and columns of an FP8 weight share a scale, where its shapes leave that open
// ("weight_block_size" or "block_structure" of the config).
struct QuantizedWeightHints {
  BlockShape block = {128, 128};
};

// Codes and scales of one module, read on demand: the scales with the object, codes by rows.
// Formats: compressed-tensors (FP8 per tensor, channel and block; INT8; INT4 with and without zero
// points; MXFP4, MXFP8, NVFP4), `fp8` (weight_scale_inv), Quark (FP8, MXFP4, and NVFP4 with
// weight_scale_2). Which of these it is follows from the names, types and shapes of its tensors.
// Thread-compatible; `checkpoint` outlives it.
class QuantizedWeight {
 public:
  // Nothing when the module's weight is not quantized (or the module has none). Throws:
  // kCorruptInput for tensors that do not fit each other, naming them; kUnsupported for codes
  // whose layout is not known; kIo.
  static std::optional<QuantizedWeight> Open(const CheckpointReader& checkpoint,
                                             const std::string& module,
                                             const QuantizedWeightHints& hints = {});
  ~QuantizedWeight();
  QuantizedWeight(QuantizedWeight&&) noexcept;
  QuantizedWeight& operator=(QuantizedWeight&&) noexcept;

  int64_t rows() const;
  int64_t columns() const;
  // How it is kept; the timing means nothing here.
  const TensorScheme& scheme() const;

  // Rows [first, first + values.size() / columns()) as value = code * scale. A NaN code or scale
  // gives NaN. Throws: kIo.
  void ReadRows(int64_t first, std::span<float> values) const;

  // The tensor of the codes, [rows(), codes of a row], and all tensors this was made from.
  const std::string& codes() const;
  const std::vector<std::string>& tensors() const;
  // The same rows from their bytes of the tensor of the codes.
  void DecodeRows(int64_t first, std::span<const std::byte> codes, std::span<float> values) const;

  // A value as the product of a number and a scale of its row: where a row has one scale, numbers
  // are those of the codes; of two-level scales, code * scale without the global one (either is
  // exact in bf16); else they are the values.
  void DecodeNumbers(int64_t first, std::span<const std::byte> codes,
                     std::span<float> numbers) const;
  // One for all rows, or one for each.
  std::vector<float> RowScales() const;

  // The first scale that is no positive number; nothing: all are.
  std::optional<float> FindBadScale() const;

 private:
  struct State;
  class Opener;
  explicit QuantizedWeight(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// What checkpoints call the weight of a module, numbers or codes; the first that is there counts.
std::array<std::string, 2> WeightNames(const std::string& module);

// The tensor of a module's weight, by whichever name; null when it has none.
const CheckpointReader::TensorLocation* FindWeight(const CheckpointReader& checkpoint,
                                                   const std::string& module);

// The numbers of a tensor of scales: floating ones as they are, U8 as powers of two (E8M0). Throws:
// kUnsupported for other types; kIo.
std::vector<float> ReadScaleNumbers(const CheckpointReader& checkpoint,
                                    const CheckpointReader::TensorLocation& location);

}  // namespace narrow
