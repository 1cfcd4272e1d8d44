#include "model/rope.h"

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

float Frequency(const RopeConfig& config, int64_t pair, int64_t head_size) {
  const double base =
      std::pow(config.theta, -2.0 * static_cast<double>(pair) / static_cast<double>(head_size));
  switch (config.kind) {
    case RopeConfig::Kind::kDefault:
      return static_cast<float>(base);
    case RopeConfig::Kind::kLinear:
      return static_cast<float>(base / config.factor);
    case RopeConfig::Kind::kLlama3:
      return static_cast<float>(Llama3Frequency(config, base));
  }
  Fail(ErrorCode::kInternal, "unknown rotary embedding kind");
}

}  // namespace

RopeTable::RopeTable(const RopeConfig& config, int64_t head_size, int64_t count)
    : half_(head_size / 2), cosine_(count * half_), sine_(count * half_) {
  std::vector<float> frequency(static_cast<std::size_t>(half_));
  for (int64_t i = 0; i < half_; ++i) {
    frequency[static_cast<std::size_t>(i)] = Frequency(config, i, head_size);
  }
  for (int64_t position = 0; position < count; ++position) {
    for (int64_t i = 0; i < half_; ++i) {
      // The angle is an f32 product in transformers; its rounding is part of the reference.
      const float angle = static_cast<float>(position) * frequency[static_cast<std::size_t>(i)];
      cosine_[position * half_ + i] = static_cast<float>(std::cos(static_cast<double>(angle)));
      sine_[position * half_ + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
}

}  // namespace narrow
