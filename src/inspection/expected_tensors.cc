#include "inspection/expected_tensors.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "io/wrapped_names.h"
#include "model/decoder_layout.h"
#include "model/family.h"
#include "model/layer_groups.h"
#include "model/wrapper.h"

namespace narrow {
namespace {

// Missing tensors whose absence is explained: each takes a walk over all names.
constexpr int64_t kMaxExplained = Findings::kMaxPerKind;

// Of the model_type or, where there is none, of the architectures. Null when none is known.
const ModelFamily* FamilyOf(const Json& config) {
  const auto type = OptionalString(config, "model_type", "config.json");
  const Json* architectures =
      type ? nullptr : OptionalArray(config, "architectures", "config.json");
  for (const ModelFamily& family : ModelFamilies()) {
    const bool named =
        architectures != nullptr && std::ranges::any_of(*architectures, [&](const Json& name) {
          return name.is_string() && name.get<std::string>() == family.architecture;
        });
    if (type == family.model_type || named) return &family;
  }
  return nullptr;
}

// Source: vLLM 0.32, packed_modules_mapping of models/llama.py, qwen2.py, qwen3_5.py and
// deepseek_v2.py.
std::string FusedName(const LinearSpec& part) {
  const std::string parent = part.module.substr(0, part.module.rfind('.') + 1);
  switch (part.role) {
    case WeightRole::kDeltaInput:
      return parent + "in_proj_qkvz";
    case WeightRole::kDeltaRates:
      return parent + "in_proj_ba";
    case WeightRole::kQueryLatent:
      return parent + "fused_qkv_a_proj";
    default:
      return parent + (part.group == LinearGroup::kQueryKeyValue ? "qkv_proj" : "gate_up_proj");
  }
}

ExpectedLayer Modules(const LayerSpec& spec) {
  ExpectedLayer layer;
  layer.attention_module = spec.attention_module;
  for (const PlainTensor& tensor : PlainTensors(spec)) {
    layer.plain.push_back(tensor.name.substr(0, tensor.name.rfind('.')));
  }
  if (spec.experts) layer.plain.push_back(spec.experts->module);
  layer.caches = spec.caches();
  layer.latent = spec.attention.As<LatentHeads>() != nullptr;
  for (const GroupSpec& group : GroupsOf(spec)) {
    std::vector<std::string> parts;
    for (const LinearSpec& linear : group.linears) parts.push_back(linear.module);
    if (parts.size() > 1) {
      layer.fused.push_back({FusedName(group.linears.front()), std::move(parts)});
    } else {
      layer.linears.push_back(std::move(parts.front()));
    }
  }
  for (const FusedModule& module : layer.fused) {
    layer.linears.insert(layer.linears.end(), module.parts.begin(), module.parts.end());
  }
  return layer;
}

// With the first of its parts.
void AddPart(const LinearSpec& linear, std::vector<ExpectedTensor>& required) {
  const TensorPart& part = *linear.part;
  if (part.expert > 0 || part.first_row > 0) return;
  required.push_back({part.tensor, PartShape(part, linear.columns)});
  if (linear.bias == Bias::kPresent) required.push_back({part.bias, {part.experts, part.rows}});
}

ExpectedModel Expected(const ModelFamily& family, const Json& json,
                       const std::optional<TensorNames>& names,
                       const std::function<bool(const std::string&)>& has) {
  DecoderConfig config = family.parse_shapes(json, "config.json");
  ExpectedModel expected;
  if (names) {
    config.names = *names;
    expected.body = names->body;
  }
  SettleExperts(family, config, has);
  if (family.predicts_further) {
    expected.predictor = [config](const std::string& name) { return IsPredictor(config, name); };
  }
  expected.outside = family.model(config);
  expected.tied = config.lm_head == DecoderConfig::LmHead::kTied;
  expected.head = expected.outside.lm_head_module + ".weight";
  std::vector<ExpectedTensor>& required = expected.required;
  required.push_back({expected.outside.embedding, {config.vocabulary, config.hidden}});
  for (const NamedShape& norm : FinalNormTensors(expected.outside)) {
    required.push_back({norm.name, norm.shape});
  }
  if (!expected.tied) required.push_back({expected.head, {config.vocabulary, config.hidden}});
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerSpec spec = WithExperts(family.layer(config, i));
    for (const NamedShape& tensor : SmallTensors(spec)) {
      required.push_back({tensor.name, tensor.shape});
    }
    for (const LinearSpec& linear : spec.linears) {
      if (linear.part) {
        AddPart(linear, required);
        continue;
      }
      required.push_back({linear.weight(), {linear.rows, linear.columns}});
      if (linear.bias == Bias::kPresent) required.push_back({linear.bias_name(), {linear.rows}});
    }
    expected.layers.push_back(Modules(spec));
  }
  return expected;
}

// Names beyond the weights that vLLM maps to a parameter of its model.
std::set<std::string, std::less<>> ScaleNames(const ExpectedModel& model) {
  constexpr std::array<std::string_view, 12> kAttention = {"k_scale",
                                                           "v_scale",
                                                           "kv_scale",
                                                           "q_scale",
                                                           "q_proj.output_scale",
                                                           "k_proj.output_scale",
                                                           "v_proj.output_scale",
                                                           "prob_output_scale",
                                                           "k_proj.k_scale",
                                                           "v_proj.v_scale",
                                                           "qkv_proj.k_scale",
                                                           "qkv_proj.v_scale"};
  std::set<std::string, std::less<>> names;
  for (const ExpectedLayer& layer : model.layers) {
    for (const std::string_view name : kAttention) {
      names.insert(fmt::format("{}.{}", layer.attention_module, name));
    }
    for (const std::string& module : layer.linears) {
      names.insert(module + ".weight_scale");
      names.insert(module + ".input_scale");
    }
  }
  return names;
}

// Why a tensor that is not there may be missing; "" when nothing shows it.
std::string MissingHint(const std::string& name, const ExpectedModel& expected,
                        const Inventory& inventory) {
  for (const InspectedTensor& tensor : inventory.tensors) {
    if (const auto why = ExplainName(tensor.name, name)) {
      return fmt::format(", but {}: {}", Quoted(tensor.name), *why);
    }
  }
  const std::string& table = expected.outside.embedding;
  const bool head = name == expected.head && inventory.Find(table) != nullptr;
  const bool embedding = name == table && inventory.Find(expected.head) != nullptr;
  if (!head && !embedding) return "";
  if (expected.tied) {
    return fmt::format(
        ", only {}; transformers 5 takes it for both, vLLM does not: quantize writes it under the "
        "name it needs",
        expected.head);
  }
  return fmt::format(", only {}; if they are one matrix, set \"tie_word_embeddings\": true",
                     head ? table : expected.head);
}

std::string ShapeText(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

void CheckUnknown(const ExpectedModel& expected, const InspectedTensor& tensor,
                  Findings& findings) {
  constexpr std::array<std::string_view, 12> kIgnored = {".bias",
                                                         ".q_scale",
                                                         ".k_scale",
                                                         ".v_scale",
                                                         ".q_zero_point",
                                                         ".k_zero_point",
                                                         ".v_zero_point",
                                                         "rotary_emb.inv_freq",
                                                         "rotary_pos_emb.inv_freq",
                                                         "rotary_emb.original_inv_freq",
                                                         "rotary_emb.cos_cached",
                                                         "rotary_emb.sin_cached"};
  if (expected.body && !tensor.name.starts_with(*expected.body) && tensor.name != expected.head) {
    return;  // beside the decoder
  }
  if (expected.predictor && expected.predictor(tensor.name)) return;
  const bool ignored = std::any_of(kIgnored.begin(), kIgnored.end(), [&](std::string_view suffix) {
    return tensor.name.ends_with(suffix);
  });
  if (ignored) {
    findings.Warning("tensors that vLLM ignores",
                     fmt::format("tensor {} is ignored by vLLM", Quoted(tensor.name)));
  } else if (tensor.name != expected.head) {  // a tied model may still carry its copy
    const bool probability = tensor.name.ends_with(".prob_scale");
    findings.Error(
        "unknown tensors",
        fmt::format("unknown tensor {}: vLLM has no parameter for it{}", Quoted(tensor.name),
                    probability ? "; it knows the scale as prob_output_scale"
                                : UnknownTensorHint(tensor.name)));
  }
}

}  // namespace

std::optional<ExpectedModel> FindExpectedModel(const Inventory& inventory, Findings& findings) {
  const auto has = [&](const std::string& name) { return inventory.Find(name) != nullptr; };
  try {
    const std::optional<Json> language = LanguagePart(inventory.config, "config.json");
    std::optional<TensorNames> names;
    if (language) names = LanguageNames(has, "the checkpoint");
    const Json& config = language ? *language : inventory.config;
    if (const ModelFamily* family = FamilyOf(config)) return Expected(*family, config, names, has);
    findings.Warning(
        "limits", "not a model family this build knows: tensor names and shapes are not checked");
  } catch (const Error& error) {
    findings.Error("configuration errors", error.what());
  }
  return std::nullopt;
}

void CheckTensors(const ExpectedModel& expected, const Inventory& inventory, Findings& findings) {
  std::set<std::string, std::less<>> known = ScaleNames(expected);
  int64_t explained = 0;
  if (inventory.tied_head_differs) {
    findings.Warning("heads",
                     fmt::format("config.json ties {} to {}, but both are stored and differ; vLLM "
                                 "0.32 and transformers 5 use the stored head, older ones drop it: "
                                 "set \"tie_word_embeddings\": false",
                                 expected.head, expected.outside.embedding));
  }
  for (const ExpectedTensor& required : expected.required) {
    known.insert(required.name);
    const InspectedTensor* tensor = inventory.Find(required.name);
    if (tensor == nullptr) {
      findings.Error(
          "missing tensors",
          fmt::format(
              "tensor {} is missing{}", required.name,
              explained < kMaxExplained ? MissingHint(required.name, expected, inventory) : ""));
      ++explained;
    } else if (tensor->shape != required.shape) {
      findings.Error("wrong shapes",
                     fmt::format("tensor {} has shape {}, config.json makes it {}", required.name,
                                 ShapeText(tensor->shape), ShapeText(required.shape)));
    }
  }
  for (const InspectedTensor& tensor : inventory.tensors) {
    if (!known.contains(tensor.name)) CheckUnknown(expected, tensor, findings);
  }
}

}  // namespace narrow
