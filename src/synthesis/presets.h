// Shapes of published models, for checkpoints of their size without their weights.
#pragma once

#include <span>
#include <string_view>

#include "io/json.h"

namespace narrow {

struct ModelPreset {
  std::string_view name;  // "llama-3.1-405b"
  std::string_view description;
};

// All presets, in the order to list them.
std::span<const ModelPreset> ModelPresets();

// The config.json of a preset. Throws: kInvalidArgument naming the presets there are.
Json PresetConfig(std::string_view name);

}  // namespace narrow
