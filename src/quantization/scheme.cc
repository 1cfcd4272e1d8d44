#include "quantization/scheme.h"

#include <array>
#include <string>

#include "base/error.h"
#include "quantization/schemes/fp8/fp8.h"

namespace narrow {
namespace {

constexpr std::array kSchemes = {
    QuantizationScheme{
        "fp8", "w_fp8_a_fp8", "FP8 E4M3 weights and activations, symmetric, one scale per tensor",
        Dtype::kF8E4M3, &fp8::Scale, &fp8::PowerOfTwoScale, &fp8::Quantize, &fp8::Decode},
};

}  // namespace

std::span<const QuantizationScheme> QuantizationSchemes() { return kSchemes; }

const QuantizationScheme& FindQuantizationScheme(std::string_view name) {
  std::string known;
  for (const QuantizationScheme& scheme : kSchemes) {
    if (name == scheme.name || name == scheme.alias) return scheme;
    known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", scheme.name, scheme.alias);
  }
  Fail(ErrorCode::kInvalidArgument, "quantization scheme \"{}\" is not known; this build has {}",
       name, known);
}

}  // namespace narrow
