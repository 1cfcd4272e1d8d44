#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace narrow {
namespace {

double Llama3Frequency(const RopeConfig& config, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double longest = config.original_positions / config.low_frequency_factor;
  const double shortest = config.original_positions / config.high_frequency_factor;
  if (wavelength > longest) return frequency / config.factor;
  if (wavelength < shortest) return frequency;
  const double smooth = (config.original_positions / wavelength - config.low_frequency_factor) /
                        (config.high_frequency_factor - config.low_frequency_factor);
  return (1.0 - smooth) * frequency / config.factor + smooth * frequency;
}

// The dimension whose wavelength fits `rotations` times into the original positions.
double YarnDimension(const RopeConfig& config, double rotations, int64_t width) {
  return static_cast<double>(width) *
         std::log(config.original_positions / (rotations * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(config.theta));
}

double YarnFrequency(const RopeConfig& config, double frequency, int64_t pair, int64_t width) {
  double low = YarnDimension(config, config.beta_fast, width);
  double high = YarnDimension(config, config.beta_slow, width);
  if (config.truncated) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(width - 1));
  if (low == high) high += 0.001;
  const double ramp = std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
  return frequency / config.factor * ramp + frequency * (1.0 - ramp);
}

float Frequency(const RopeConfig& config, int64_t pair, int64_t width) {
  const double base =
      std::pow(config.theta, -2.0 * static_cast<double>(pair) / static_cast<double>(width));
  switch (config.kind) {
    case RopeConfig::Kind::kDefault:
      return static_cast<float>(base);
    case RopeConfig::Kind::kLinear:
      return static_cast<float>(base / config.factor);
    case RopeConfig::Kind::kLlama3:
      return static_cast<float>(Llama3Frequency(config, base));
    case RopeConfig::Kind::kYarn:
      return static_cast<float>(YarnFrequency(config, base, pair, width));
    case RopeConfig::Kind::kLongRope:
      return static_cast<float>(base / config.factors[static_cast<std::size_t>(pair)]);
  }
  Fail(ErrorCode::kInternal, "unknown rotary embedding kind");
}

}  // namespace

RopeTable::RopeTable(const RopeConfig& config, int64_t width, int64_t count)
    : half_(width / 2), cosine_(count * half_), sine_(count * half_) {
  std::vector<float> frequency(static_cast<std::size_t>(half_));
  for (int64_t i = 0; i < half_; ++i) {
    frequency[static_cast<std::size_t>(i)] = Frequency(config, i, width);
  }
  for (int64_t position = 0; position < count; ++position) {
    for (int64_t i = 0; i < half_; ++i) {
      // The angle is an f32 product in transformers; its rounding is part of the reference.
      const float angle = static_cast<float>(position) * frequency[static_cast<std::size_t>(i)];
      // cos and sin are f32 before they are scaled there.
      const auto scaled = [&](double value) {
        return static_cast<float>(config.attention_factor *
                                  static_cast<double>(static_cast<float>(value)));
      };
      cosine_[position * half_ + i] = scaled(std::cos(static_cast<double>(angle)));
      sine_[position * half_ + i] = scaled(std::sin(static_cast<double>(angle)));
    }
  }
}

RopeTables::RopeTables(std::span<const LayerSpec> layers, int64_t count) {
  for (const LayerSpec& layer : layers) {
    if (!layer.attention.rotary || Of(layer) != nullptr) continue;
    const RotarySpec& spec = *layer.attention.rotary;
    if (spec.frequencies.longest > 0 && count > spec.frequencies.longest) {
      Fail(ErrorCode::kInvalidArgument,
           "a text has {} tokens, max_position_embeddings is {}: with rope_type \"dynamic\" the "
           "rotation of longer texts depends on their length; take shorter windows and documents",
           count, spec.frequencies.longest);
    }
    entries_.push_back({spec, RopeTable(spec.frequencies, spec.width, count)});
  }
}

const RopeTable* RopeTables::Of(const LayerSpec& layer) const {
  for (const Entry& entry : entries_) {
    if (layer.attention.rotary == entry.spec) return &entry.table;
  }
  return nullptr;
}

}  // namespace narrow
