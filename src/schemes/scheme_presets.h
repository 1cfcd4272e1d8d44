// The schemes that have a name in the field: one row each, in scheme_presets.cc.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "schemes/tensor_scheme.h"

namespace narrow {

struct SchemePreset {
  std::string_view name;     // as compressed-tensors calls it, where it does
  std::string_view aliases;  // other names of the same scheme, with spaces between
  std::string_view summary;  // one line of help
  LinearScheme scheme;
};

// The scheme of a job that names none.
inline constexpr std::string_view kDefaultSchemeName = "fp8";

std::span<const SchemePreset> SchemePresets();

// Names are taken in upper or lower case. Null when nobody knows the name.
const SchemePreset* FindSchemePreset(std::string_view name);

// Throws: kInvalidArgument for a name that nobody knows, or that means two schemes ("int8"); both
// list the known ones.
const SchemePreset& GetSchemePreset(std::string_view name);

// The preset with this scheme; null when none has it.
const SchemePreset* PresetOf(const LinearScheme& scheme);

// Every name, for help and messages: "fp8 (w_fp8_a_fp8), FP8_DYNAMIC (ptpc_fp8), ...".
std::string SchemeNames();

}  // namespace narrow
