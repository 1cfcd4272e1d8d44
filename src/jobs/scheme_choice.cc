#include "jobs/scheme_choice.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "formats/quantized_weight.h"
#include "formats/registry.h"
#include "model/layer_groups.h"
#include "model/module_names.h"
#include "schemes/scheme_presets.h"

namespace narrow {

namespace {

// A matrix of numbers that does not stay by its name.
bool NeedsExclusion(const CheckpointReader& checkpoint, const OtherTensor& other) {
  if (other.linear.empty()) return false;
  const SafetensorsEntry& entry = checkpoint.Get(other.name).entry;
  return Info(entry.dtype).floating && ElementBytes(entry.dtype) > 1 &&
         !ReasonToStay(other.linear, entry.shape[0], checkpoint.config());
}

}  // namespace

bool IsByData(std::string_view scheme, bool recipe, std::string_view format) {
  if (recipe) return true;
  const bool older = format.empty() || std::ranges::any_of(ExportFormats(), [&](const auto& row) {
                       return row.name == format;
                     });
  const bool known = older || std::ranges::any_of(SchemeFormats(), [&](const auto& row) {
                       return row.name == format;
                     });
  if (!known) static_cast<void>(FindExportFormat(format));  // says which there are
  return !older || &GetSchemePreset(scheme) != &GetSchemePreset(kDefaultSchemeName);
}

RoundingAlgorithm DefaultRounding(const Recipe& recipe) {
  const std::vector<LinearScheme> schemes = recipe.Schemes();
  return std::ranges::any_of(schemes, CompensationPays) ? RoundingAlgorithm::kCompensated
                                                        : RoundingAlgorithm::kNearest;
}

ModuleChoices ChooseForPass(const QuantizeRequest& request, const ModelSource& model,
                            const std::set<std::string>& kept) {
  ChoiceRequest choice = {request.schemes->recipe,
                          &FormatOf(request.schemes->recipe, request.schemes->format),
                          request.exclude_patterns, request.schemes->include_patterns};
  std::set<std::string> with_their_tensor;  // no modules of the checkpoint, and stay anyway
  const bool keeps = model.family->experts == ModelFamily::Experts::kKept;
  for (const LayerSpec& layer : LayersOf(*model.family, model.config)) {
    for (const LinearSpec& linear : WithExperts(layer).linears) {
      if (linear.part && keeps) {
        with_their_tensor.insert(linear.module);
        continue;
      }
      if (linear.treatment == LinearSpec::Treatment::kAsStored) {
        choice.exclude_patterns.push_back(linear.module);
      }
      if (linear.part) {  // written as those of each expert
        choice.taken_apart.insert(linear.part->tensor);
        choice.dequantized.push_back(
            {linear.module, linear.rows, linear.columns, model.config.dtype});
        continue;
      }
      const auto* weight = FindWeight(*model.checkpoint, linear.module);
      if (weight == nullptr || ElementBytes(weight->entry.dtype) == 2 ||
          weight->entry.dtype == Dtype::kF32) {
        continue;
      }
      choice.dequantized.push_back(
          {linear.module, linear.rows, linear.columns, model.config.dtype});
    }
  }
  std::ranges::set_difference(kept, with_their_tensor, std::back_inserter(choice.exclude_patterns));
  // What is not run is copied: layers that predict further, other parts of a multimodal model.
  for (const OtherTensor& other : model.config.others) {
    if (NeedsExclusion(*model.checkpoint, other)) choice.exclude_patterns.push_back(other.linear);
  }
  return ChooseModules(*model.checkpoint, choice);
}

void SetSchemes(const QuantizeRequest& request, const ModelSource& model,
                LayerQuantizationOptions& options) {
  SchemeAssignment& schemes = options.schemes.emplace();
  schemes.format = &FormatOf(request.schemes->recipe, request.schemes->format);
  schemes.exact_quotient = request.schemes->exact_quotient;
  if (request.cache == CacheScheme::kFp8 && !schemes.format->caches) {
    Fail(ErrorCode::kUnsupported,
         "--format {} has no place for scales of the KV cache beside these schemes; use "
         "compressed-tensors, or no --kv_cache_dtype",
         schemes.format->name);
  }
  std::map<std::string, LinearScheme> chosen;
  for (const ModuleChoice& choice : ChooseForPass(request, model).modules) {
    if (choice.scheme) chosen.emplace(choice.linear.module, *choice.scheme);
  }
  for (const LayerSpec& layer : LayersOf(*model.family, model.config)) {
    for (const LinearSpec& linear : layer.linears) {
      const auto own = chosen.find(linear.module);
      const auto same = [&](const LinearSpec& other) {
        const auto found = chosen.find(other.module);
        if (own == chosen.end()) return found == chosen.end();
        return found != chosen.end() && found->second == own->second;
      };
      const auto mixed = FindMixedGroup(layer, same);
      if (mixed && mixed->first->group == linear.group) {
        Fail(ErrorCode::kUnsupported,
             "{} and {} read the same input, and serving engines fuse them: give them one scheme, "
             "or leave both",
             mixed->first->module, mixed->second->module);
      }
    }
    for (const LinearSpec& linear : WithExperts(layer).linears) {
      const auto own = chosen.find(linear.module);
      if (own == chosen.end()) {
        options.excluded.insert(linear.module);
      } else {
        schemes.of_modules.insert(*own);
      }
    }
  }
  if (schemes.of_modules.empty()) {
    Fail(ErrorCode::kInvalidArgument, "no linear layer of the model is to be quantized");
  }
}

Json SchemeConfig(const QuantizeRequest& request, const ModelSource& model,
                  const std::set<std::string>& kept) {
  SchemeDescription description = ChooseForPass(request, model, kept).Describe();
  if (request.cache == CacheScheme::kFp8) {
    description.cache =
        TensorScheme{Code::kE4M3, {0, 0}, ScaleFormat::kFloat, Timing::kStatic, true};
  }
  return FormatOf(request.schemes->recipe, request.schemes->format).config(description);
}

}  // namespace narrow
