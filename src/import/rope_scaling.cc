#include "import/rope_scaling.h"

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "io/json.h"

namespace narrow {
namespace {

constexpr double kLowFrequencyFactor = 1;
constexpr double kHighFrequencyFactor = 4;
constexpr double kOriginalPositions = 8192;
// The tensor was computed in f32; where the two regimes blend its error grows by about the factor.
constexpr double kTolerance = 1e-4;

}  // namespace

std::vector<double> Llama3RopeFactors(double theta, int64_t head_dim, double factor) {
  std::vector<double> factors;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(head_dim);
    const double wavelength = 2 * std::numbers::pi * std::pow(theta, exponent);
    const double turns = kOriginalPositions / wavelength;
    if (turns > kHighFrequencyFactor) {
      factors.push_back(1);
    } else if (turns < kLowFrequencyFactor) {
      factors.push_back(factor);
    } else {
      const double smooth =
          (turns - kLowFrequencyFactor) / (kHighFrequencyFactor - kLowFrequencyFactor);
      factors.push_back(1 / ((1 - smooth) / factor + smooth));
    }
  }
  return factors;
}

double MatchLlama3Factor(std::span<const float> factors, double theta, const std::string& what) {
  for (const double factor : {8.0, 32.0}) {
    const std::vector<double> expected =
        Llama3RopeFactors(theta, 2 * static_cast<int64_t>(factors.size()), factor);
    bool equal = true;
    for (std::size_t i = 0; i < factors.size(); ++i) {
      equal = equal && std::abs(factors[i] - expected[i]) <= kTolerance * expected[i];
    }
    if (equal) return factor;
  }
  Fail(ErrorCode::kUnsupported,
       "{}: rope_freqs.weight is not Llama 3.1 scaling by 8 or 32 from 8192 positions", what);
}

std::optional<double> LinearRopeFactor(const GgufMetadata& metadata) {
  const std::string type = metadata.OptionalString("llama.rope.scaling.type").value_or("none");
  if (type != "none" && type != "linear") {
    Fail(ErrorCode::kUnsupported, "{}: rope scaling {}; linear and Llama 3.1's are handled",
         metadata.what(), Quoted(type));
  }
  // Files from before the type was stored have only the second key.
  const std::optional<double> factor = type == "linear"
                                           ? metadata.Number("llama.rope.scaling.factor")
                                           : metadata.OptionalNumber("llama.rope.scale_linear");
  if (!factor || *factor == 1) return std::nullopt;
  if (*factor < 1) {
    Fail(ErrorCode::kCorruptInput, "{}: rope scaling factor {} is below 1", metadata.what(),
         *factor);
  }
  return factor;
}

}  // namespace narrow
