// Signs that a quantized checkpoint will be worse than it needs to be.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/family.h"
#include "quantization/layer_quantizer.h"
#include "text/token_stream.h"

namespace narrow {

// How varied a calibration text is.
struct TokenVariety {
  int64_t tokens = 0;
  int64_t distinct = 0;
  int64_t vocabulary = 0;  // entries of the model's vocabulary
};

// REQUIRES: tokens of the stream are not negative and below `vocabulary`.
TokenVariety CountVariety(const TokenStream& stream, int64_t vocabulary);

// Share of a weight's elements beyond the range of FP8 from which it is a warning.
inline constexpr double kSaturationLimit = 1e-3;
// Below it a step of the weight's codes falls under float16's smallest number (2^-24), in which
// vLLM requantizes at load: 2^-9 * 2^-15. Source: docs/formats/checkpoint.md, "What vLLM does at
// load".
inline constexpr float kSmallestExactScale = 3.0517578125e-5f;
// A scale stands out when it is as many (scaled) median absolute deviations from the median of the
// same linear in the other layers, and at least as many times larger or smaller. Both on a log
// scale.
inline constexpr double kOutlierDeviations = 6.0;
inline constexpr double kOutlierFactor = 16.0;
// Fewest distinct tokens a calibration text should have; a quarter of smaller vocabularies.
inline constexpr int64_t kFewDistinctTokens = 512;

// Fewest tokens that an expert should have seen in calibration.
inline constexpr int64_t kFewExpertTokens = 16;

// One sentence for each finding, which names the layer and the remedy: weights that saturate,
// scales far outside those of the same linear in other layers, weight scales too small for vLLM's
// load, inputs that never differed from zero, experts that hardly any token chose, a calibration
// text of few distinct tokens. Of each kind the two worst have their own sentence, the second of
// which counts the rest, so that there are eleven at most. Layers as of the whole model, in order.
std::vector<std::string> QuantizationWarnings(std::span<const LayerFacts> layers,
                                              const TokenVariety& calibration);

// What is to be said of the cache of latent attention, where it is quantized.
std::optional<std::string> LatentCacheRemark(const ModelFamily& family, const DecoderConfig& config,
                                             CacheScheme cache);

}  // namespace narrow
