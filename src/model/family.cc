#include "model/family.h"

#include <array>
#include <set>

#include "model/llama/llama.h"

namespace narrow {
namespace {

constexpr std::array kFamilies = {
    ModelFamily{"LlamaForCausalLM", "Llama 2, 3, 3.1 and 3.2, SmolLM2 and other Llama layouts",
                &llama::ParseConfig, &llama::Layer, &llama::Model},
};

std::string ShapeText(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

// Ticks the tensors of a model off against a checkpoint.
class WeightCheck {
 public:
  WeightCheck(const CheckpointReader& checkpoint, WeightState weights)
      : checkpoint_(checkpoint), weights_(weights) {}

  void Tensor(const std::string& name, const Shape& expected) {
    const SafetensorsEntry& entry = Ticked(name, expected);
    if (entry.dtype != Dtype::kBF16 && entry.dtype != Dtype::kF16 && entry.dtype != Dtype::kF32) {
      Fail(ErrorCode::kCorruptInput, "tensor {} is {}, expected BF16, F16 or F32{}", name,
           Name(entry.dtype),
           entry.dtype == Dtype::kF8E4M3 ? "; start from the unquantized checkpoint" : "");
    }
  }

  void Linear(const LinearSpec& linear) {
    const Shape shape = {linear.rows, linear.columns};
    const CheckpointReader::TensorLocation* found = checkpoint_.Find(linear.weight());
    if (weights_ == WeightState::kQuantizedToo && found != nullptr &&
        found->entry.dtype == Dtype::kF8E4M3) {
      Ticked(linear.weight(), shape);
      Scale(linear.module + ".weight_scale");
      Scale(linear.module + ".input_scale");
      if (checkpoint_.Find(linear.module + ".output_scale") != nullptr) {
        Scale(linear.module + ".output_scale");
      }
    } else {
      Tensor(linear.weight(), shape);
    }
    if (linear.bias == Bias::kPresent) Tensor(linear.bias_name(), {linear.rows});
  }

  // Scales of the KV cache; a checkpoint has both or none.
  void CacheScales(const std::string& attention_module) {
    if (checkpoint_.Find(attention_module + ".k_scale") == nullptr) return;
    Scale(attention_module + ".k_scale");
    Scale(attention_module + ".v_scale");
  }

  void NothingElse(std::string_view architecture) const {
    for (const CheckpointReader::TensorLocation& tensor : checkpoint_.tensors()) {
      const std::string& name = tensor.entry.name;
      // Old exports carry the frequency table of the rotary embedding; it follows from the config.
      // A tied lm_head may be stored a second time.
      const bool derived = name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight";
      if (!ticked_.contains(name) && !derived) {
        Fail(
            ErrorCode::kCorruptInput,
            "tensor {} does not belong to a {} with this config.json; refusing to drop it silently",
            name, architecture);
      }
    }
  }

 private:
  const SafetensorsEntry& Ticked(const std::string& name, const Shape& expected) {
    ticked_.insert(name);
    const SafetensorsEntry& entry = checkpoint_.Get(name).entry;
    if (entry.shape != expected) {
      Fail(
          ErrorCode::kCorruptInput,
          "tensor {} has shape {}, but config.json asks for {}; the config and the weights are not "
          "of the same model",
          name, ShapeText(entry.shape), ShapeText(expected));
    }
    return entry;
  }

  void Scale(const std::string& name) {
    ticked_.insert(name);
    checkpoint_.Get(name);
  }

  const CheckpointReader& checkpoint_;
  WeightState weights_;
  std::set<std::string> ticked_;
};

}  // namespace

std::span<const ModelFamily> ModelFamilies() { return kFamilies; }

const ModelFamily& FindModelFamily(const Json& config, std::string_view what) {
  const Json* architectures = OptionalArray(config, "architectures", what);
  if (architectures == nullptr || architectures->size() != 1 ||
      !architectures->front().is_string()) {
    Fail(ErrorCode::kCorruptInput, "{}: \"architectures\" must name exactly one model class", what);
  }
  const auto architecture = architectures->front().get<std::string>();
  std::string known;
  for (const ModelFamily& family : kFamilies) {
    if (family.architecture == architecture) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  }
  Fail(ErrorCode::kUnsupported, "{}: architecture {} is not supported; this build knows {}", what,
       architecture, known);
}

void CheckWeights(const ModelFamily& family, const DecoderConfig& config,
                  const CheckpointReader& checkpoint, WeightState weights) {
  WeightCheck check(checkpoint, weights);
  const ModelSpec model = family.model(config);
  check.Tensor(model.embedding, {config.vocabulary, config.hidden});
  check.Tensor(model.final_norm.name, {model.final_norm.size});
  check.Tensor(model.lm_head, {config.vocabulary, config.hidden});
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerSpec layer = family.layer(config, i);
    check.Tensor(layer.attention_norm.name, {layer.attention_norm.size});
    check.Tensor(layer.mlp_norm.name, {layer.mlp_norm.size});
    for (const LinearSpec& linear : layer.linears) check.Linear(linear);
    check.CacheScales(layer.attention_module);
  }
  check.NothingElse(family.architecture);
}

}  // namespace narrow
