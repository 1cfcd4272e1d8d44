// What a job refuses of its model and its exclusions before it begins.
#include <fnmatch.h>

#include <algorithm>

#include "base/error.h"
#include "jobs/quantize.h"
#include "model/layer_groups.h"

namespace narrow {

void CheckNamingLoads(const ModelFamily& family, const ExportFormat& format, CacheScheme cache) {
  if (cache == CacheScheme::kNone || family.cache_names == ModelFamily::CacheNames::kEither ||
      format.cache_scales == ExportFormat::CacheScales::kOfAttention) {
    return;
  }
  const auto loads = std::ranges::find(ExportFormats(), ExportFormat::CacheScales::kOfAttention,
                                       &ExportFormat::cache_scales);
  Fail(
      ErrorCode::kUnsupported,
      "--custom_mode {}: vLLM does not load scales of the KV cache under these names for a {}; use "
      "--custom_mode {}, or no --kv_cache_dtype",
      format.name, family.architecture, loads->name);
}

namespace {

// Linears that vLLM fuses are quantized together or not at all, and so are the experts of a layer.
void CheckWholeGroups(const ModelFamily& family, const DecoderConfig& config,
                      const std::set<std::string>& excluded) {
  const auto taken = [&](const LinearSpec& linear) { return excluded.contains(linear.module); };
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerSpec layer = family.layer(config, i);
    auto mixed = FindMixedGroup(layer, taken);
    for (std::size_t e = 0; layer.experts && e < layer.experts->linears.size(); ++e) {
      const std::vector<LinearSpec>& linears = layer.experts->linears;
      if (taken(linears[e]) != taken(linears.front())) mixed = {&linears.front(), &linears[e]};
    }
    if (!mixed) continue;
    const auto [first, other] = *mixed;
    Fail(ErrorCode::kInvalidArgument,
         "--exclude_layers takes {} but not {}; vLLM fuses the two and refuses a checkpoint that "
         "quantizes only one: exclude both or none",
         (taken(*first) ? first : other)->module, (taken(*first) ? other : first)->module);
  }
}

}  // namespace

std::set<std::string> MatchExcluded(const ModelFamily& family, const DecoderConfig& config,
                                    const std::vector<std::string>& patterns) {
  std::set<std::string> excluded = LinearsKeptAsStored(family, config);
  const std::string head = family.model(config).lm_head_module;
  for (const std::string& pattern : patterns) {
    bool matched = fnmatch(pattern.c_str(), head.c_str(), 0) == 0;  // stays as it is anyway
    for (int64_t i = 0; i < config.layers; ++i) {
      for (const LinearSpec& linear : WithExperts(family.layer(config, i)).linears) {
        if (fnmatch(pattern.c_str(), linear.module.c_str(), 0) != 0) continue;
        excluded.insert(linear.module);
        matched = true;
      }
    }
    if (!matched) {
      Fail(ErrorCode::kInvalidArgument,
           "--exclude_layers {} matches no linear layer of the model (an example of a name: {})",
           pattern, family.layer(config, 0).linears.front().module);
    }
  }
  CheckWholeGroups(family, config, excluded);
  for (int64_t i = 0; family.experts == ModelFamily::Experts::kKept && i < config.layers; ++i) {
    const LayerSpec layer = family.layer(config, i);
    for (std::size_t l = 0; layer.experts && l < layer.experts->linears.size(); ++l) {
      excluded.insert(layer.experts->linears[l].module);
    }
  }
  return excluded;
}

}  // namespace narrow
