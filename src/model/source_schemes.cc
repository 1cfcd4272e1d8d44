#include "model/source_schemes.h"

#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

constexpr std::string_view kConfig = "quantization_config";

std::optional<StoredSchemes> Parse(const CheckpointReader& checkpoint) {
  const auto block = checkpoint.config().find(kConfig);
  if (block == checkpoint.config().end() || !block->is_object()) return std::nullopt;
  return StoredSchemes::Parse(*block);
}

}  // namespace

SourceSchemes::SourceSchemes(const CheckpointReader& checkpoint)
    : checkpoint_(checkpoint), schemes_(Parse(checkpoint)) {}

std::optional<StoredQuantization> SourceSchemes::Open(const std::string& module) const {
  const QuantizedWeightHints hints = schemes_ ? schemes_->hints() : QuantizedWeightHints{};
  auto weight = QuantizedWeight::Open(checkpoint_, module, hints);
  if (!weight) return std::nullopt;
  if (const auto bad = weight->FindBadScale()) {
    Fail(ErrorCode::kNumeric,
         "a scale of {} is {}, expected a positive number; the checkpoint is damaged", module,
         *bad);
  }
  StoredQuantization found = {*std::move(weight), {}, {}};
  found.tensors = found.weight.tensors();
  const TensorScheme static_input = *StaticFloat8Input(1.0f).scheme;
  if (!schemes_) {
    found.input = InputOf(module, static_input, found.tensors);
    return found;
  }
  const LinearScheme* scheme = schemes_->Find(module);
  if (scheme == nullptr) {
    Fail(ErrorCode::kCorruptInput,
         "{} is {}, but {} leaves it unquantized; the two are not of one checkpoint", module,
         DescribeScheme(found.weight.scheme()), kConfig);
  }
  TensorScheme stored = found.weight.scheme();
  stored.timing = scheme->weight.timing;
  if (!(stored == scheme->weight)) {
    Fail(ErrorCode::kCorruptInput, "{} is {}, but {} says {}; the two are not of one checkpoint",
         module, DescribeScheme(stored), kConfig, DescribeScheme(scheme->weight));
  }
  if (scheme->input) found.input = InputOf(module, *scheme->input, found.tensors);
  return found;
}

float SourceSchemes::ReadPositive(const std::string& module, std::string_view leaf,
                                  std::vector<std::string>& tensors) const {
  const std::string name = fmt::format("{}.{}", module, leaf);
  const std::vector<float> values = ReadScaleNumbers(checkpoint_, checkpoint_.Get(name));
  if (values.size() != 1) {
    Fail(ErrorCode::kCorruptInput, "scale {} should be one number, found {}", name, values.size());
  }
  if (!(values[0] >= std::numeric_limits<float>::min() && std::isfinite(values[0]))) {
    Fail(ErrorCode::kNumeric,
         "scale {} is {}, expected a positive number that is not denormal; the checkpoint is "
         "damaged",
         name, values[0]);
  }
  tensors.push_back(name);
  return values[0];
}

LinearInput SourceSchemes::InputOf(const std::string& module, const TensorScheme& scheme,
                                   std::vector<std::string>& tensors) const {
  LinearInput input = {scheme, {}};
  const auto has = [&](std::string_view leaf) {
    return checkpoint_.Find(fmt::format("{}.{}", module, leaf)) != nullptr;
  };
  if (scheme.scale == ScaleFormat::kE4M3WithGlobal) {
    // compressed-tensors' is a divisor, Quark's a multiplier.
    input.values.global = has("input_scale_2")
                              ? 1.0f / ReadPositive(module, "input_scale_2", tensors)
                              : ReadPositive(module, "input_global_scale", tensors);
    return input;
  }
  if (scheme.timing == Timing::kDynamic) return input;
  input.values.scale = ReadPositive(module, "input_scale", tensors);
  if (!has("input_zero_point")) return input;
  const std::string name = module + ".input_zero_point";
  const CheckpointReader::TensorLocation& zero = checkpoint_.Get(name);
  if (zero.entry.dtype != Dtype::kI8 || zero.entry.bytes() != 1) {
    Fail(ErrorCode::kCorruptInput, "{} should be one number of type I8", name);
  }
  std::byte value;
  checkpoint_.Read(zero, std::span(&value, 1));
  input.values.zero = static_cast<float>(static_cast<int8_t>(value));
  tensors.push_back(name);
  return input;
}

LinearInput MergeInputs(const std::vector<const LinearInput*>& inputs, const std::string& module) {
  LinearInput merged = *inputs.front();
  for (const LinearInput* input : inputs) {
    if (input->scheme != merged.scheme) {
      Fail(ErrorCode::kUnsupported,
           "{} and the linears that read the same input round it in different ways; serving "
           "engines fuse them, and take one for all",
           module);
    }
    if (input->values.scale > merged.values.scale || input->values.global > merged.values.global) {
      merged = *input;
    }
  }
  return merged;
}

}  // namespace narrow
