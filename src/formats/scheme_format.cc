#include "formats/scheme_format.h"

#include <algorithm>

#include "base/error.h"
#include "formats/compressed_tensors/compressed_tensors.h"
#include "formats/fp8/fp8_blocks.h"
#include "formats/quark/quark_schemes.h"

namespace narrow {
namespace {

// The first that holds a scheme is its default.
constexpr SchemeFormat kFormats[] = {
    {"compressed-tensors", "as llm-compressor writes: every scheme", &CompressedTensorsHolds, true,
     true, &CompressedTensorsRule, &CompressedTensorsParts, &CompressedTensorsConfig},
    {"fp8", "the vendors' own FP8 checkpoints: blocks of 128 x 128", &Fp8BlocksHolds, false, false,
     &Fp8BlocksRule, &Fp8BlocksParts, &Fp8BlocksConfig},
    {"quark", "AMD Quark's: FP8 per channel and MXFP4", &QuarkHolds, false, false, &QuarkRule,
     &QuarkParts, &QuarkSchemeConfig},
};

template <class Takes>
std::string NamesWhere(const Takes& takes) {
  std::string names;
  for (const SchemeFormat& format : kFormats) {
    if (!takes(format)) continue;
    if (!names.empty()) names += ", ";
    names += format.name;
  }
  return names;
}

}  // namespace

std::span<const SchemeFormat> SchemeFormats() { return kFormats; }

const SchemeFormat& DefaultFormat(const LinearScheme& scheme) {
  const auto format =
      std::ranges::find_if(kFormats, [&](const SchemeFormat& row) { return row.holds(scheme); });
  NARROW_CHECK(format != std::end(kFormats));
  return *format;
}

const SchemeFormat& FindSchemeFormat(std::string_view name, const LinearScheme& scheme) {
  const auto format = std::ranges::find(kFormats, name, &SchemeFormat::name);
  if (format == std::end(kFormats)) {
    Fail(ErrorCode::kInvalidArgument, "unknown format '{}'; use one of: {}", name,
         NamesWhere([](const SchemeFormat&) { return true; }));
  }
  if (!format->holds(scheme)) {
    Fail(ErrorCode::kUnsupported,
         "--format {} does not hold this quantization scheme; these do: {}", name,
         NamesWhere([&](const SchemeFormat& row) { return row.holds(scheme); }));
  }
  return *format;
}

}  // namespace narrow
