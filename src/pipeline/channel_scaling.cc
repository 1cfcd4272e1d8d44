#include "pipeline/channel_scaling.h"

#include <algorithm>

namespace narrow {
namespace {

// Best factor of each of `count` channels; error(phase, channel) is what each phase costs.
template <typename Error>
std::vector<float> BestFactors(int64_t count, const Error& error) {
  std::vector<float> factors(static_cast<std::size_t>(count));
  for (int64_t c = 0; c < count; ++c) {
    factors[static_cast<std::size_t>(c)] =
        GridPhaseFactor(BestPhase([&](int64_t phase) { return error(phase, c); }));
  }
  return factors;
}

// Both channels that a rotation mixes get one factor. An error that all keys share moves every
// score of a query alike, and the softmax does not see it: only the spread counts.
std::vector<float> BestKeyFactors(const AttentionHeads& heads, const GridErrors& errors) {
  const int64_t half = heads.head_size / 2;
  return BestFactors(errors.channels(), [&](int64_t phase, int64_t c) {
    const int64_t in_head = c % heads.head_size;
    const int64_t partner = in_head < half ? c + half : c - half;
    return errors.Spread(phase, c) + errors.Spread(phase, partner);
  });
}

// A channel of V is rounded in the cache, and what attention makes of it, in every query head that
// shares the key-value head, at the input of o_proj.
std::vector<float> BestValueFactors(const AttentionHeads& heads, const GridErrors& values,
                                    const GridErrors& attended) {
  const int64_t sharing = heads.query_heads / heads.key_value_heads;
  return BestFactors(heads.key_value_heads * heads.head_size, [&](int64_t phase, int64_t c) {
    double error = values.Error(phase, c);
    const int64_t head = c / heads.head_size * sharing, in_head = c % heads.head_size;
    for (int64_t i = 0; i < sharing; ++i) {
      error += attended.Error(phase, (head + i) * heads.head_size + in_head);
    }
    return error;
  });
}

// Factors of key-value channels for each of the query heads that share them.
std::vector<float> ForQueryHeads(std::span<const float> factors, const AttentionHeads& heads) {
  const int64_t sharing = heads.query_heads / heads.key_value_heads;
  std::vector<float> expanded;
  for (int64_t head = 0; head < heads.query_heads; ++head) {
    const auto of_head = factors.subspan(static_cast<std::size_t>(head / sharing * heads.head_size),
                                         static_cast<std::size_t>(heads.head_size));
    expanded.insert(expanded.end(), of_head.begin(), of_head.end());
  }
  return expanded;
}

std::vector<float> Scaled(std::vector<float> maxima, std::span<const float> factors) {
  for (std::size_t i = 0; i < factors.size(); ++i) maxima[i] *= factors[i];
  return maxima;
}

}  // namespace

std::vector<float> LayerScaling::Columns(LinearGroup group, const DecoderConfig& config) const {
  if (group != LinearGroup::kAttentionOutput || values.empty()) return {};
  return ForQueryHeads(values, config.heads);
}

std::vector<float> LayerScaling::Rows(WeightRole role, const DecoderConfig& config) const {
  if (role == WeightRole::kKey) return keys;
  if (role == WeightRole::kValue) return values;
  if (role != WeightRole::kQuery || keys.empty()) return {};
  std::vector<float> inverse = ForQueryHeads(keys, config.heads);
  for (float& factor : inverse) factor = 1.0f / factor;
  return inverse;
}

LayerScaling ChooseScaling(const DecoderConfig& config, const LayerGridErrors& errors) {
  LayerScaling scaling;
  if (errors.keys) scaling.keys = BestKeyFactors(config.heads, *errors.keys);
  if (errors.values && errors.attended) {
    scaling.values = BestValueFactors(config.heads, *errors.values, *errors.attended);
  }
  return scaling;
}

LayerRanges ScaleRanges(const LayerRanges& ranges, const LayerScaling& scaling,
                        const DecoderConfig& config) {
  LayerRanges scaled = ranges;
  for (const LinearGroup group : kLinearGroups) {
    std::vector<float>& maxima = scaled.inputs[static_cast<std::size_t>(group)];
    maxima = Scaled(std::move(maxima), scaling.Columns(group, config));
  }
  scaled.keys = Scaled(std::move(scaled.keys), scaling.keys);
  scaled.values = Scaled(std::move(scaled.values), scaling.values);
  return scaled;
}

}  // namespace narrow
