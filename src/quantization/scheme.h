// A quantization scheme: how numbers become codes and what scale they get. One folder per scheme
// and one row in the table of scheme.cc.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "tensor/dtype.h"

namespace narrow {

struct QuantizationScheme {
  std::string_view name;   // as --quant_scheme takes it today
  std::string_view alias;  // an older spelling of the same scheme
  std::string_view description;
  Dtype dtype;  // of weights, activations and KV cache

  // The scale (multiply a code by it to get the value) for values up to `amax` in magnitude, in
  // f32. REQUIRES: amax finite and >= 0. The result is > 0.
  float (*scale)(float amax);
  // The same, but the next power of two: values keep their place within their binade.
  float (*power_of_two_scale)(float amax);
  // Writes one code (one byte) per value; returns how many values saturated.
  int64_t (*quantize)(std::span<const float> values, float scale, std::span<std::byte> codes);
  // Codes as numbers before the scale; exact.
  void (*decode)(std::span<const std::byte> codes, std::span<float> values);
};

std::span<const QuantizationScheme> QuantizationSchemes();

// Throws: kInvalidArgument naming the known schemes.
const QuantizationScheme& FindQuantizationScheme(std::string_view name);

}  // namespace narrow
