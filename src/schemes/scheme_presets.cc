#include "schemes/scheme_presets.h"

#include <algorithm>

#include "base/error.h"

namespace narrow {
namespace {

constexpr BlockShape kTensor = {0, 0};
constexpr BlockShape kRow = {1, 0};
constexpr auto kFloat = ScaleFormat::kFloat;
constexpr auto kE8M0 = ScaleFormat::kPowerOfTwo;
constexpr auto kTwoLevels = ScaleFormat::kE4M3WithGlobal;
constexpr auto kStatic = Timing::kStatic;
constexpr auto kDynamic = Timing::kDynamic;

// Sources: compressed-tensors 0.19, quant_scheme.py (PRESET_SCHEMES); AMD Quark 0.13 for ptpc_fp8.
constexpr SchemePreset kPresets[] = {
    {"fp8",
     "w_fp8_a_fp8",
     "FP8 weights and inputs, one static scale per tensor",
     {.weight = {Code::kE4M3, kTensor, kFloat, kStatic},
      .input = TensorScheme{Code::kE4M3, kTensor, kFloat, kStatic}}},
    {"FP8_DYNAMIC",
     "ptpc_fp8",
     "FP8 weights per channel, inputs per token as they come",
     {.weight = {Code::kE4M3, kRow, kFloat, kStatic},
      .input = TensorScheme{Code::kE4M3, kRow, kFloat, kDynamic}}},
    {"FP8_BLOCK",
     "",
     "FP8 weights in blocks of 128 x 128, inputs in groups of 128 as they come",
     {.weight = {Code::kE4M3, {128, 128}, kFloat, kStatic},
      .input = TensorScheme{Code::kE4M3, {1, 128}, kFloat, kDynamic}}},
    {"W8A8",
     "",
     "INT8 weights per channel, inputs per token as they come",
     {.weight = {Code::kInt8, kRow, kFloat, kStatic},
      .input = TensorScheme{Code::kInt8, kRow, kFloat, kDynamic}}},
    {"W8A8_STATIC",
     "",
     "INT8 weights per channel, one static scale per input",
     {.weight = {Code::kInt8, kRow, kFloat, kStatic},
      .input = TensorScheme{Code::kInt8, kTensor, kFloat, kStatic}}},
    {"W4A16",
     "",
     "INT4 weights in groups of 128",
     {.weight = {Code::kInt4, {1, 128}, kFloat, kStatic}, .input = {}}},
    {"W4A16_ASYM",
     "",
     "INT4 weights in groups of 128 with zero points",
     {.weight = {Code::kInt4, {1, 128}, kFloat, kStatic, false}, .input = {}}},
    {"MXFP4",
     "",
     "FP4 weights and inputs in groups of 32 with powers of two for scales",
     {.weight = {Code::kE2M1, {1, 32}, kE8M0, kStatic},
      .input = TensorScheme{Code::kE2M1, {1, 32}, kE8M0, kDynamic}}},
    {"MXFP4A16",
     "",
     "the same, weights alone",
     {.weight = {Code::kE2M1, {1, 32}, kE8M0, kStatic}, .input = {}}},
    {"MXFP8",
     "",
     "FP8 weights and inputs in groups of 32 with powers of two for scales",
     {.weight = {Code::kE4M3, {1, 32}, kE8M0, kStatic},
      .input = TensorScheme{Code::kE4M3, {1, 32}, kE8M0, kDynamic}}},
    {"NVFP4",
     "",
     "FP4 weights and inputs in groups of 16 with FP8 scales and a global scale",
     {.weight = {Code::kE2M1, {1, 16}, kTwoLevels, kStatic},
      .input = TensorScheme{Code::kE2M1, {1, 16}, kTwoLevels, kDynamic}}},
    {"NVFP4A16",
     "",
     "the same, weights alone",
     {.weight = {Code::kE2M1, {1, 16}, kTwoLevels, kStatic}, .input = {}}},
};

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool SameName(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, Lower, Lower);
}

bool HasAlias(const SchemePreset& preset, std::string_view name) {
  for (std::string_view rest = preset.aliases; !rest.empty();) {
    const std::string_view alias = rest.substr(0, rest.find(' '));
    if (SameName(alias, name)) return true;
    rest.remove_prefix(std::min(rest.size(), alias.size() + 1));
  }
  return false;
}

}  // namespace

std::span<const SchemePreset> SchemePresets() { return kPresets; }

const SchemePreset* FindSchemePreset(std::string_view name) {
  for (const SchemePreset& preset : kPresets) {
    if (SameName(preset.name, name) || HasAlias(preset, name)) return &preset;
  }
  return nullptr;
}

const SchemePreset& GetSchemePreset(std::string_view name) {
  if (const SchemePreset* preset = FindSchemePreset(name)) return *preset;
  if (SameName(name, "int8")) {
    Fail(ErrorCode::kInvalidArgument,
         "\"int8\" means two schemes: compressed-tensors' has a scale per channel and dynamic "
         "inputs (say W8A8, or W8A8_STATIC for static ones), Quark's one static scale per tensor "
         "for weights and inputs, which this program does not write");
  }
  Fail(ErrorCode::kInvalidArgument, "quantization scheme \"{}\" is not known; this build has {}",
       name, SchemeNames());
}

const SchemePreset* PresetOf(const LinearScheme& scheme) {
  for (const SchemePreset& preset : kPresets) {
    if (preset.scheme == scheme) return &preset;
  }
  return nullptr;
}

std::string SchemeNames() {
  std::string names;
  for (const SchemePreset& preset : kPresets) {
    if (!names.empty()) names += ", ";
    names += preset.name;
    if (!preset.aliases.empty()) names += fmt::format(" ({})", preset.aliases);
  }
  return names;
}

}  // namespace narrow
