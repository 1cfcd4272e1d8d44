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

void CheckTensor(const CheckpointReader& checkpoint, const std::string& name, const Shape& expected,
                 std::set<std::string>& known) {
  known.insert(name);
  const SafetensorsEntry& entry = checkpoint.Get(name).entry;
  if (entry.shape != expected) {
    Fail(ErrorCode::kCorruptInput,
         "tensor {} has shape {}, but config.json asks for {}; the config and the weights are not of "
         "the same model",
         name, ShapeText(entry.shape), ShapeText(expected));
  }
  if (entry.dtype != Dtype::kBF16 && entry.dtype != Dtype::kF16 && entry.dtype != Dtype::kF32) {
    Fail(ErrorCode::kCorruptInput,
         "tensor {} is {}, expected BF16, F16 or F32; narrow starts from an unquantized checkpoint",
         name, Name(entry.dtype));
  }
}

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
                  const CheckpointReader& checkpoint) {
  std::set<std::string> known;
  const ModelSpec model = family.model(config);
  CheckTensor(checkpoint, model.embedding, {config.vocabulary, config.hidden}, known);
  CheckTensor(checkpoint, model.final_norm.name, {model.final_norm.size}, known);
  CheckTensor(checkpoint, model.lm_head, {config.vocabulary, config.hidden}, known);
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerSpec layer = family.layer(config, i);
    CheckTensor(checkpoint, layer.attention_norm.name, {layer.attention_norm.size}, known);
    CheckTensor(checkpoint, layer.mlp_norm.name, {layer.mlp_norm.size}, known);
    for (const LinearSpec& linear : layer.linears) {
      CheckTensor(checkpoint, linear.weight(), {linear.rows, linear.columns}, known);
      if (linear.bias == Bias::kPresent) {
        CheckTensor(checkpoint, linear.bias_name(), {linear.rows}, known);
      }
    }
  }
  for (const CheckpointReader::TensorLocation& tensor : checkpoint.tensors()) {
    const std::string& name = tensor.entry.name;
    // Old exports carry the frequency table of the rotary embedding; it follows from the config. A
    // tied lm_head may be stored a second time.
    const bool derived = name.ends_with(".rotary_emb.inv_freq") || name == "lm_head.weight";
    if (!known.contains(name) && !derived) {
      Fail(ErrorCode::kCorruptInput,
           "tensor {} does not belong to a {} with this config.json; refusing to drop it silently",
           name, family.architecture);
    }
  }
}

}  // namespace narrow
