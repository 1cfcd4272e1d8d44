// How the linears of a quantized checkpoint are kept and run: its config block and its tensors
// together.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/quantized_weight.h"
#include "formats/stored_schemes.h"
#include "io/checkpoint_reader.h"
#include "model/fused_linear.h"

namespace narrow {

// A quantized linear: what its codes mean, and what becomes of its input.
struct StoredQuantization {
  QuantizedWeight weight;
  LinearInput input;
  std::vector<std::string> tensors;  // all it is made of
};

class SourceSchemes {
 public:
  // `checkpoint` outlives the object. Throws: as StoredSchemes::Parse.
  explicit SourceSchemes(const CheckpointReader& checkpoint);

  // Whether the config block tells schemes; otherwise what is FP8 has a static scale per tensor
  // for weights and inputs.
  bool stated() const { return schemes_.has_value(); }

  // Nothing: the module's weight is not quantized. Throws: as QuantizedWeight::Open; kCorruptInput
  // when config and tensors contradict each other or a scale of the inputs lacks; kNumeric for
  // scales that are no positive numbers. All name the module or the tensor.
  std::optional<StoredQuantization> Open(const std::string& module) const;

 private:
  LinearInput InputOf(const std::string& module, const TensorScheme& scheme,
                      std::vector<std::string>& tensors) const;
  // A positive number. Throws: kCorruptInput, kNumeric.
  float ReadPositive(const std::string& module, std::string_view leaf,
                     std::vector<std::string>& tensors) const;

  const CheckpointReader& checkpoint_;
  std::optional<StoredSchemes> schemes_;
};

// The input of linears that run as one product: one scale for all, the largest, as vLLM takes it.
// Throws: kUnsupported where their schemes differ; `module` is for the message.
LinearInput MergeInputs(const std::vector<const LinearInput*>& inputs, const std::string& module);

}  // namespace narrow
