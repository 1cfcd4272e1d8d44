#include "model/served_otherwise.h"

#include <fmt/format.h>

namespace narrow {
namespace {

std::optional<std::string> OfCohere(const Json& config, std::string_view what) {
  if (!OptionalNumber(config, "rms_norm_eps", what)) return std::nullopt;
  return fmt::format(
      "{} has \"rms_norm_eps\", for which vLLM computes RMS norms in place of the layer norms of "
      "transformers, which are evaluated here: remove it unless the model was trained with them",
      what);
}

std::optional<std::string> OfMinistral3(const Json& config, std::string_view what) {
  if (OptionalObject(config, "llama_4_scaling", what) != nullptr) return std::nullopt;
  const Json* rotation = OptionalObject(config, "rope_parameters", what);
  if (rotation == nullptr) rotation = OptionalObject(config, "rope_scaling", what);
  if (rotation == nullptr) return std::nullopt;
  const double beta = OptionalNumber(*rotation, "llama_4_scaling_beta", what).value_or(0.0);
  if (beta == 0.0) return std::nullopt;
  const double original = RequiredNumber(*rotation, "original_max_position_embeddings", what);
  return fmt::format(
      "vLLM does not read \"llama_4_scaling_beta\" of {}: from token {} on it does not scale "
      "queries as transformers, and evaluation here, do; with \"llama_4_scaling\": {{\"beta\": {}, "
      "\"original_max_position_embeddings\": {}}} there, it does",
      what, original, beta, original);
}

}  // namespace

std::optional<std::string> ServedOtherwise(const Json& config, std::string_view architecture,
                                           std::string_view what) {
  if (architecture == "CohereForCausalLM" || architecture == "Cohere2ForCausalLM") {
    return OfCohere(config, what);
  }
  if (architecture == "Ministral3ForCausalLM") return OfMinistral3(config, what);
  return std::nullopt;
}

}  // namespace narrow
