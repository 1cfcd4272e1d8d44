#include "formats/registry.h"

#include "base/error.h"
#include "formats/fp8/fp8.h"
#include "formats/quark/quark.h"
#include "formats/quark_layout.h"

namespace narrow {
namespace {

constexpr ExportFormat kFormats[] = {
    {"fp8", "quant_method fp8: vLLM's own FP8 checkpoints, self_attn.k_scale, v_scale and q_scale",
     &Fp8QuantizationConfig, &QuarkLinearTensors, &Fp8AttentionScaleTensors},
    {"quark", "quant_method quark: AMD Quark's checkpoints, k_proj, v_proj and q_proj output_scale",
     &QuarkQuantizationConfig, &QuarkLinearTensors, &QuarkAttentionScaleTensors,
     ExportFormat::CacheScales::kOfProjections},
};

std::string KnownNames() {
  std::string names;
  for (const ExportFormat& format : kFormats) {
    if (!names.empty()) names += ", ";
    names += format.name;
  }
  return names;
}

}  // namespace

std::span<const ExportFormat> ExportFormats() { return kFormats; }

const ExportFormat& FindExportFormat(std::string_view name) {
  for (const ExportFormat& format : kFormats) {
    if (format.name == name) return format;
  }
  if (name == "awq") {
    Fail(ErrorCode::kUnsupported,
         "export format 'awq' stores 4-bit integers, which this program does not make; use one of: "
         "{}",
         KnownNames());
  }
  Fail(ErrorCode::kInvalidArgument, "unknown export format '{}'; use one of: {}", name,
       KnownNames());
}

}  // namespace narrow
