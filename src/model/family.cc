#include "model/family.h"

#include <array>
#include <map>
#include <set>

#include "formats/quantized_weight.h"
#include "io/wrapped_names.h"
#include "model/cache_scales.h"
#include "model/families/families.h"
#include "model/layer_groups.h"
#include "model/missing_tensor.h"
#include "model/source_schemes.h"

namespace narrow {
namespace {

std::span<const ModelFamily> Families() {
  static const std::array families = {
      LlamaFamily(),       Qwen2Family(),      Qwen3Family(),      MistralFamily(),
      MinistralFamily(),   Ministral3Family(), Phi3Family(),       Olmo2Family(),
      Olmo3Family(),       GraniteFamily(),    Glm4Family(),       SmolLm3Family(),
      Ernie45Family(),     SeedOssFamily(),    Exaone4Family(),    HunYuanDenseFamily(),
      GemmaFamily(),       Gemma2Family(),     Gemma3Family(),     Starcoder2Family(),
      NemotronFamily(),    CohereFamily(),     Cohere2Family(),    Qwen2MoeFamily(),
      Qwen3MoeFamily(),    MixtralFamily(),    MiniMaxM2Family(),  OlmoeFamily(),
      Glm4MoeFamily(),     GptOssFamily(),     GraniteMoeFamily(), Llama4Family(),
      Qwen35Family(),      Qwen35MoeFamily(),  Qwen3NextFamily(),  DeepseekV3Family(),
      DeepseekV32Family(), GlmMoeDsaFamily(),  StableLmFamily(),
  };
  return families;
}

std::string ShapeText(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

// Ticks the tensors of a model off against a checkpoint.
class WeightCheck {
 public:
  WeightCheck(const CheckpointReader& checkpoint, WeightState weights, std::string head)
      : checkpoint_(checkpoint), weights_(weights), head_(std::move(head)) {
    if (weights != WeightState::kOriginal) schemes_.emplace(checkpoint);
  }

  void Tensor(const std::string& name, const Shape& expected) {
    const SafetensorsEntry& entry = Ticked(name, expected);
    if (entry.dtype != Dtype::kBF16 && entry.dtype != Dtype::kF16 && entry.dtype != Dtype::kF32) {
      Fail(ErrorCode::kCorruptInput, "tensor {} is {}, expected BF16, F16 or F32{}", name,
           Name(entry.dtype),
           entry.dtype == Dtype::kF8E4M3 ? "; start from the unquantized checkpoint" : "");
    }
  }

  void Linear(const LinearSpec& linear) {
    if (linear.part) {
      Tensor(linear.part->tensor, PartShape(*linear.part, linear.columns));
      if (linear.bias == Bias::kPresent) {
        Tensor(linear.part->bias, {linear.part->experts, linear.part->rows});
      }
      return;
    }
    const Shape shape = {linear.rows, linear.columns};
    if (schemes_ && schemes_->stated()) return InStatedScheme(linear);
    const CheckpointReader::TensorLocation* found = checkpoint_.Find(linear.weight());
    if (weights_ == WeightState::kQuantizedToo && found != nullptr &&
        found->entry.dtype == Dtype::kF8E4M3) {
      Ticked(linear.weight(), shape);
      Scale(linear.module + ".weight_scale", linear.weight());
      Scale(linear.module + ".input_scale", linear.weight());
      if (checkpoint_.Find(linear.module + ".output_scale") != nullptr) {
        Scale(linear.module + ".output_scale", linear.weight());
      }
    } else {
      Tensor(linear.weight(), shape);
      for (const std::string& scale :
           {linear.module + ".weight_scale", linear.module + ".input_scale"}) {
        if (checkpoint_.Find(scale) == nullptr) continue;
        Fail(ErrorCode::kCorruptInput,
             "the checkpoint has the scale {}, but {} is {}, not F8_E4M3; the two are not of one "
             "checkpoint",
             scale, linear.weight(), Name(found->entry.dtype));
      }
    }
    if (linear.bias == Bias::kPresent) Tensor(linear.bias_name(), {linear.rows});
  }

  // Linears that run as one product are all quantized, and by one scheme, or none is: serving
  // engines fuse them.
  void Groups(const LayerSpec& layer) const {
    if (schemes_ && schemes_->stated()) return StatedGroups(layer);
    const auto dtype = [&](const LinearSpec& linear) {
      return checkpoint_.Get(linear.part ? linear.part->tensor : linear.weight()).entry.dtype;
    };
    const auto quantized = [&](const LinearSpec& linear) {
      return dtype(linear) == Dtype::kF8E4M3;
    };
    const auto mixed = FindMixedGroup(layer, quantized);
    if (!mixed) return;
    const auto [first, linear] = *mixed;
    Fail(ErrorCode::kCorruptInput,
         "tensor {} is {}, but {} is {}: linears that read the same input are fused, so all of "
         "them are FP8 or none is",
         first->weight(), Name(dtype(*first)), linear->weight(), Name(dtype(*linear)));
  }

  // Scales of the KV cache, which all layers have or none has, and of attention in FP8.
  void AttentionScalesOf(const LayerSpec& layer) {
    if (!layer.caches()) return;
    const auto names = FindCacheScales(checkpoint_, layer);
    if (names) {
      const AttentionHeads& heads = layer.attention.heads;
      Scale(names->key, layer.attention_module, heads.key_value_heads);
      Scale(names->value, layer.attention_module, heads.key_value_heads);
    }
    if (!attention_) attention_ = {layer.attention_module, names.has_value()};
    if (attention_->second != names.has_value()) {
      Fail(ErrorCode::kCorruptInput,
           "{} has scales of the KV cache and {} has none; serving engines take 1.0 there",
           names ? layer.attention_module : attention_->first,
           names ? attention_->first : layer.attention_module);
    }
    const auto unused = [&](const std::string& name) {
      ticked_.insert(name);
      ++unused_scales_;
      unused_scale_ = name;
    };
    if (const auto query = FindQueryScale(checkpoint_, layer)) {
      if (names) {
        Scale(*query, layer.attention_module, layer.attention.heads.query_heads);
      } else {
        unused(*query);
      }
    }
    for (const std::string& name : ProbabilityScales(layer)) {
      if (checkpoint_.Find(name) != nullptr) unused(name);
    }
  }

  void Others(const std::vector<OtherTensor>& others) {
    for (const OtherTensor& other : others) ticked_.insert(other.name);
  }

  // A head that is the embedding may be stored, or listed by the index, a second time.
  // Tables of the rotary embedding, which old exports carry, follow from the config; nobody reads
  // them.
  void NothingElse(const ModelFamily& family) const {
    const auto check = [&](const std::string& name) {
      if (ticked_.contains(name) || name == head_ || IsRotaryTable(name)) return;
      Fail(
          ErrorCode::kCorruptInput,
          "tensor {} does not belong to a {} with this config.json; refusing to drop it silently{}",
          name, family.architecture, UnknownTensorHint(name));
    };
    for (const auto& tensor : checkpoint_.tensors()) check(tensor.entry.name);
    for (const auto& [name, file] : checkpoint_.absent()) check(name);
  }

  std::vector<std::string> Remarks() const {
    if (unused_scales_ == 0) return {};
    return {
        fmt::format("{} scale{} for attention in FP8 ({}{}) {} not used: probabilities have one of "
                    "the kernels' own, and queries one beside an FP8 cache alone",
                    unused_scales_, unused_scales_ == 1 ? "" : "s", unused_scale_,
                    unused_scales_ == 1 ? "" : " and others", unused_scales_ == 1 ? "is" : "are")};
  }

 private:
  void InStatedScheme(const LinearSpec& linear) {
    const std::optional<StoredQuantization> found = schemes_->Open(linear.module);
    if (linear.bias == Bias::kPresent) Tensor(linear.bias_name(), {linear.rows});
    if (!found) return Tensor(linear.weight(), {linear.rows, linear.columns});
    if (found->weight.rows() != linear.rows || found->weight.columns() != linear.columns) {
      Fail(ErrorCode::kCorruptInput,
           "{} holds {} x {} numbers, but config.json asks for {} x {}; the config and the weights "
           "are not of the same model",
           found->weight.codes(), found->weight.rows(), found->weight.columns(), linear.rows,
           linear.columns);
    }
    ticked_.insert(found->tensors.begin(), found->tensors.end());
    found_.emplace(linear.module, FoundScheme{found->weight.scheme(), found->input.scheme});
  }

  void StatedGroups(const LayerSpec& layer) const {
    for (const LinearSpec& linear : layer.linears) {
      const auto scheme = found_.find(linear.module);
      const auto mixed = FindMixedGroup(layer, [&](const LinearSpec& other) {
        const auto found = found_.find(other.module);
        if (scheme == found_.end()) return found == found_.end();
        return found != found_.end() && found->second == scheme->second;
      });
      if (!mixed || mixed->first->group != linear.group) continue;
      Fail(ErrorCode::kUnsupported,
           "{} and {} are in different quantization schemes: linears that read the same input are "
           "fused, and serving engines refuse this, or take one scheme for both",
           mixed->first->module, mixed->second->module);
    }
  }

  struct FoundScheme {
    TensorScheme weight;
    std::optional<TensorScheme> input;
    bool operator==(const FoundScheme&) const = default;
  };

  // The head may lack in an index: exporters forget what they take for tied.
  const SafetensorsEntry& Ticked(const std::string& name, const Shape& expected) {
    ticked_.insert(name);
    if (checkpoint_.Find(name) == nullptr) FailMissingTensor(checkpoint_, name);
    const CheckpointReader::TensorLocation& found = checkpoint_.Get(name);
    if (!found.listed && name != head_) {
      Fail(ErrorCode::kCorruptInput,
           "{}: tensor {} is not in model.safetensors.index.json; the index and the files are not "
           "of the same model: download them again",
           found.file->path().string(), name);
    }
    const SafetensorsEntry& entry = found.entry;
    if (entry.shape != expected) {
      Fail(
          ErrorCode::kCorruptInput,
          "tensor {} has shape {}, but config.json asks for {}; the config and the weights are not "
          "of the same model",
          name, ShapeText(entry.shape), ShapeText(expected));
    }
    return entry;
  }

  // One number of a type that numbers are computed in, or one for each head.
  void Scale(const std::string& name, const std::string& owner, int64_t heads = 1) {
    ticked_.insert(name);
    if (checkpoint_.Find(name) == nullptr) {
      Fail(ErrorCode::kCorruptInput, "{}: the checkpoint has no tensor {}, the scale of {}",
           checkpoint_.directory().string(), name, owner);
    }
    const SafetensorsEntry& entry = checkpoint_.Get(name).entry;
    const bool computed =
        entry.dtype == Dtype::kF32 || entry.dtype == Dtype::kBF16 || entry.dtype == Dtype::kF16;
    if (computed && (entry.shape.empty() || entry.shape == Shape{1})) return;
    if (computed && (entry.shape == Shape{heads} || entry.shape == Shape{heads, 1, 1})) return;
    Fail(ErrorCode::kCorruptInput,
         "scale {} is {} of shape {}, expected one number: F32, BF16 or F16 of shape [] or [1]",
         name, Name(entry.dtype), ShapeText(entry.shape));
  }

  const CheckpointReader& checkpoint_;
  WeightState weights_;
  std::string head_;                          // how the head would be called as a matrix of its own
  std::optional<SourceSchemes> schemes_;      // where a job can start from them
  std::map<std::string, FoundScheme> found_;  // of quantized modules, where the config states them
  std::set<std::string> ticked_;
  std::optional<std::pair<std::string, bool>> attention_;  // the first, and if it has cache scales
  int64_t unused_scales_ = 0;
  std::string unused_scale_;  // the last of them
};

const ModelFamily& FindByName(const std::string& name, std::string_view kind,
                              std::string_view ModelFamily::*key, std::string_view what) {
  constexpr std::string_view kEnding = "ForCausalLM";  // of most: said once
  std::string known;
  bool ends = false;
  for (const ModelFamily& family : Families()) {
    std::string_view next = family.*key;
    if (next == name) return family;
    if (next.ends_with(kEnding)) {
      next.remove_suffix(kEnding.size());
      ends = true;
    }
    known += (known.empty() ? "" : ", ") + std::string(next);
  }
  Fail(ErrorCode::kUnsupported, "{}: {} {} is not supported; this build knows {}{}", what, kind,
       Quoted(name), ends ? "those that begin, before ForCausalLM, with " : "", known);
}

}  // namespace

std::span<const ModelFamily> ModelFamilies() { return Families(); }

std::vector<LayerSpec> LayersOf(const ModelFamily& family, const DecoderConfig& config) {
  std::vector<LayerSpec> layers;
  for (int64_t i = 0; i < config.layers; ++i) layers.push_back(family.layer(config, i));
  return layers;
}

std::set<std::string> LinearsKeptAsStored(const ModelFamily& family, const DecoderConfig& config) {
  std::set<std::string> kept;
  for (const LayerSpec& layer : LayersOf(family, config)) {
    for (const LinearSpec& linear : layer.linears) {
      if (linear.treatment == LinearSpec::Treatment::kAsStored) kept.insert(linear.module);
    }
  }
  return kept;
}

void SettleExperts(const ModelFamily& family, DecoderConfig& config,
                   const std::function<bool(const std::string&)>& has) {
  const auto& layers = config.experts.layers;
  const auto with = std::ranges::find(layers, true);
  if (config.experts.count == 0 || with == layers.end()) return;
  using Storage = ExpertsConfig::Storage;
  const Storage usual = config.experts.storage;
  for (const Storage storage : {Storage::kEach, Storage::kStacked}) {
    config.experts.storage = storage;
    const LayerSpec layer = family.layer(config, with - layers.begin());
    const LinearSpec& first = layer.experts->linears.front();
    if (first.part ? has(first.part->tensor)
                   : std::ranges::any_of(WeightNames(first.module), has)) {
      return;
    }
  }
  config.experts.storage = usual;
}

const ModelFamily& FindModelFamily(const Json& config, std::string_view what) {
  const Json* architectures = OptionalArray(config, "architectures", what);
  if (architectures == nullptr || architectures->empty()) {
    const std::optional<std::string> type = OptionalString(config, "model_type", what);
    if (!type) {
      Fail(ErrorCode::kCorruptInput,
           "{}: there is neither \"architectures\" nor \"model_type\" to say what model it is",
           what);
    }
    return FindByName(*type, "model_type", &ModelFamily::model_type, what);
  }
  if (architectures->size() != 1 || !architectures->front().is_string()) {
    Fail(ErrorCode::kCorruptInput, "{}: \"architectures\" must name exactly one model class", what);
  }
  return FindByName(architectures->front().get<std::string>(), "architecture",
                    &ModelFamily::architecture, what);
}

std::vector<std::string> CheckWeights(const ModelFamily& family, const DecoderConfig& config,
                                      const CheckpointReader& checkpoint, WeightState weights) {
  const ModelSpec model = family.model(config);
  WeightCheck check(checkpoint, weights, model.lm_head_module + ".weight");
  check.Others(config.others);
  check.Tensor(model.embedding, {config.vocabulary, config.hidden});
  for (const NamedShape& norm : FinalNormTensors(model)) check.Tensor(norm.name, norm.shape);
  check.Tensor(model.lm_head, {config.vocabulary, config.hidden});
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerSpec layer = family.layer(config, i);
    for (const NamedShape& tensor : SmallTensors(layer)) check.Tensor(tensor.name, tensor.shape);
    for (const LinearSpec& linear : layer.linears) check.Linear(linear);
    check.Groups(layer);
    for (int64_t e = 0; layer.experts && e < layer.experts->count; ++e) {
      const LayerSpec expert = ExpertLayer(layer, e);
      for (const LinearSpec& linear : expert.linears) check.Linear(linear);
      check.Groups(expert);
    }
    check.AttentionScalesOf(layer);
  }
  check.NothingElse(family);
  return check.Remarks();
}

}  // namespace narrow
