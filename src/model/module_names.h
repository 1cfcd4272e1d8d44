// What a matrix is by its name and shape alone, for architectures that no family describes: what
// servers never quantize, what they fuse, and what belongs to one layer's experts.
// Sources: model files of vLLM 0.32 (packed_modules_mapping, FusedMoE); docs/schemes.md.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"

namespace narrow {

// "router", "embedding", ...: why the module stays as it is by default; nothing: it is a linear.
// `config` is that of the model.
std::optional<std::string> ReasonToStay(std::string_view module, int64_t rows, const Json& config);
// Every such reason with the patterns it is known by, for --help and documentation.
struct StayingKind {
  std::string_view reason;
  std::string_view patterns;  // shell patterns of full names, with spaces between
};
const std::vector<StayingKind>& StayingKinds();

// Modules that a server loads into one matrix, in its order.
struct FusedParts {
  std::string_view fused;               // "qkv_proj"
  std::vector<std::string_view> parts;  // last parts of names
};
const std::vector<FusedParts>& FusedModules();

// The fused matrix that the module is a part of: its full name and the part's place; nothing for a
// module that is loaded alone.
struct FusedPlace {
  std::string fused;
  int place = 0;
};
std::optional<FusedPlace> FusedPlaceOf(std::string_view module);

// "model.layers.3.mlp.experts" for one of its experts' linears; else empty.
std::string ExpertsOf(std::string_view module);

// Rows of the parts of a matrix that is stored fused (qkv_proj, gate_up_proj), as far as the config
// tells them; else all rows are one part.
std::vector<int64_t> StoredParts(std::string_view module, int64_t rows, const Json& config);

}  // namespace narrow
