#include "model/wrapper.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "base/error.h"
#include "model/decoder_layout.h"

namespace narrow {
namespace {

constexpr std::array<std::string_view, 8> kWrappers = {
    "Gemma3ForConditionalGeneration",    "LlavaForConditionalGeneration",
    "LlavaNextForConditionalGeneration", "Mistral3ForConditionalGeneration",
    "Qwen2VLForConditionalGeneration",   "Qwen2_5_VLForConditionalGeneration",
    "Qwen3_5ForConditionalGeneration",   "Qwen3_5MoeForConditionalGeneration"};

// model_type of a language part, and of the model it is on its own.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kSameModels = {
    {{"qwen2_vl", "qwen2"},
     {"qwen2_vl_text", "qwen2"},
     {"qwen2_5_vl", "qwen2"},
     {"qwen2_5_vl_text", "qwen2"}}};

// In order of how much they say: the last is that of models without a wrapper, too.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kNames = {
    {{"model.language_model.", "lm_head"},
     {"language_model.model.", "language_model.lm_head"},
     {"model.", "lm_head"}}};

// Members that only the outer config may hold.
constexpr std::array<std::string_view, 3> kShared = {"tie_word_embeddings", "torch_dtype", "dtype"};

bool IsWrapper(const Json& config, std::string_view what) {
  const Json* architectures = OptionalArray(config, "architectures", what);
  if (architectures == nullptr || architectures->size() != 1) return false;
  const Json& name = architectures->front();
  return name.is_string() && std::ranges::count(kWrappers, name.get<std::string>()) > 0;
}

void DropSections(Json& text, const char* member, std::string_view what) {
  const Json* found = OptionalObject(text, member, what);
  if (found == nullptr || !found->contains("mrope_section")) return;
  Json rope = *found;
  rope.erase("mrope_section");
  for (const char* kind : {"type", "rope_type"}) {
    if (OptionalString(rope, kind, what).value_or("") == "mrope") rope[kind] = "default";
  }
  text[member] = std::move(rope);
}

}  // namespace

std::optional<Json> LanguagePart(const Json& config, std::string_view what) {
  if (!IsWrapper(config, what)) return std::nullopt;
  const Json* inner = OptionalObject(config, "text_config", what);
  Json text = inner != nullptr ? *inner : config;
  text.erase("architectures");  // of the language part there is none, or that of the wrapper
  text.erase("vision_config");
  const std::string type = RequiredString(text, "model_type", what);
  const auto same = std::ranges::find(kSameModels, type, &decltype(kSameModels)::value_type::first);
  if (same != kSameModels.end()) text["model_type"] = same->second;
  for (const std::string_view key : kShared) {
    if (!text.contains(key) && config.contains(key)) text[std::string(key)] = config[key];
  }
  DropSections(text, "rope_scaling", what);
  DropSections(text, "rope_parameters", what);
  return text;
}

TensorNames LanguageNames(const std::function<bool(const std::string&)>& has,
                          std::string_view what) {
  for (const auto& [body, head] : kNames) {
    if (!has(std::string(body) + "embed_tokens.weight")) continue;
    return {std::string(body), std::string(head)};
  }
  Fail(ErrorCode::kCorruptInput,
       "{}: no embedding of the language part; expected {}embed_tokens.weight, "
       "{}embed_tokens.weight or {}embed_tokens.weight",
       what, kNames[0].first, kNames[1].first, kNames[2].first);
}

namespace {

OtherTensor Other(const SafetensorsEntry& entry) {
  constexpr std::string_view kWeight = ".weight";
  const std::string& name = entry.name;
  const bool matrix = name.ends_with(kWeight) && entry.shape.size() == 2;
  return {name, entry.bytes(),
          matrix ? name.substr(0, name.size() - kWeight.size()) : std::string()};
}

}  // namespace

std::vector<OtherTensor> TensorsAfterLayers(const CheckpointReader& checkpoint,
                                            const DecoderConfig& config) {
  std::vector<OtherTensor> others;
  for (const CheckpointReader::TensorLocation& tensor : checkpoint.tensors()) {
    for (int64_t i = config.layers; i < config.layers + config.prediction_layers; ++i) {
      const std::string prefix = fmt::format("{}layers.{}.", config.names.body, i);
      if (tensor.entry.name.starts_with(prefix)) others.push_back(Other(tensor.entry));
    }
  }
  return others;
}

namespace {

std::vector<OtherTensor> TensorsThat(const CheckpointReader& checkpoint,
                                     const std::function<bool(const std::string&)>& are) {
  constexpr std::string_view kWeight = ".weight";
  std::vector<OtherTensor> others;
  for (const CheckpointReader::TensorLocation& tensor : checkpoint.tensors()) {
    const std::string& name = tensor.entry.name;
    if (!are(name)) continue;
    const bool matrix = name.ends_with(kWeight) && tensor.entry.shape.size() == 2;
    others.push_back({name, tensor.entry.bytes(),
                      matrix ? name.substr(0, name.size() - kWeight.size()) : std::string()});
  }
  return others;
}

}  // namespace

std::vector<OtherTensor> OtherTensors(const CheckpointReader& checkpoint,
                                      const TensorNames& names) {
  return TensorsThat(checkpoint, [&](const std::string& name) {
    return !name.starts_with(names.body) && name != names.head + ".weight";
  });
}

std::vector<OtherTensor> PredictorTensors(const CheckpointReader& checkpoint,
                                          const DecoderConfig& config) {
  return TensorsThat(checkpoint,
                     [&](const std::string& name) { return IsPredictor(config, name); });
}

}  // namespace narrow
