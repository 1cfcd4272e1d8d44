#include "inspection/llama_tensors.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "io/wrapped_names.h"

namespace narrow {
namespace {

// Bounds the work a lying configuration can ask for; the largest Llama has 126 layers.
constexpr int64_t kMaxLayers = 10'000;
// Missing tensors whose absence is explained: each takes a walk over all names.
constexpr int64_t kMaxExplained = Findings::kMaxPerKind;
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

bool IsLlama(const Json& config) {
  if (const auto type = OptionalString(config, "model_type", "config.json")) {
    return *type == "llama";
  }
  const Json* architectures = OptionalArray(config, "architectures", "config.json");
  return architectures != nullptr && std::find(architectures->begin(), architectures->end(),
                                               "LlamaForCausalLM") != architectures->end();
}

int64_t PositiveInt(const Json& config, std::string_view key) {
  const int64_t value = RequiredInt(config, key, "config.json");
  if (value <= 0 || value > INT32_MAX) {
    Fail(ErrorCode::kCorruptInput, "config.json: \"{}\" is {}, expected a positive 32-bit integer",
         key, value);
  }
  return value;
}

LlamaTensors Expected(const Json& config) {
  const auto flag = [&](std::string_view key) {
    return OptionalBool(config, key, "config.json").value_or(false);
  };
  const auto size = [&](std::string_view key, int64_t otherwise) {
    return OptionalInt(config, key, "config.json") ? PositiveInt(config, key) : otherwise;
  };
  const int64_t hidden = PositiveInt(config, "hidden_size");
  const int64_t inner = PositiveInt(config, "intermediate_size");
  const int64_t vocabulary = PositiveInt(config, "vocab_size");
  const int64_t heads = PositiveInt(config, "num_attention_heads");
  const int64_t kv_heads = size("num_key_value_heads", heads);
  const int64_t head = size("head_dim", hidden / heads);
  LlamaTensors expected;
  expected.layers = PositiveInt(config, "num_hidden_layers");
  if (expected.layers > kMaxLayers) {
    Fail(ErrorCode::kCorruptInput, "config.json: num_hidden_layers is {}, at most {} are checked",
         expected.layers, kMaxLayers);
  }
  std::vector<ExpectedTensor>& required = expected.required;
  const auto linear = [&](const std::string& module, int64_t out, int64_t in, bool bias) {
    required.push_back({module + ".weight", {out, in}});
    if (bias) required.push_back({module + ".bias", {out}});
  };
  const bool attention_bias = flag("attention_bias");
  const bool mlp_bias = flag("mlp_bias");
  required.push_back({"model.embed_tokens.weight", {vocabulary, hidden}});
  required.push_back({"model.norm.weight", {hidden}});
  expected.tied = flag("tie_word_embeddings");
  if (!expected.tied) linear("lm_head", vocabulary, hidden, false);
  for (int64_t i = 0; i < expected.layers; ++i) {
    const std::string layer = LayerName(i);
    required.push_back({layer + ".input_layernorm.weight", {hidden}});
    required.push_back({layer + ".post_attention_layernorm.weight", {hidden}});
    linear(layer + ".self_attn.q_proj", heads * head, hidden, attention_bias);
    linear(layer + ".self_attn.k_proj", kv_heads * head, hidden, attention_bias);
    linear(layer + ".self_attn.v_proj", kv_heads * head, hidden, attention_bias);
    linear(layer + ".self_attn.o_proj", hidden, heads * head, attention_bias);
    linear(layer + ".mlp.gate_proj", inner, hidden, mlp_bias);
    linear(layer + ".mlp.up_proj", inner, hidden, mlp_bias);
    linear(layer + ".mlp.down_proj", hidden, inner, mlp_bias);
  }
  return expected;
}

// Names beyond the weights that vLLM maps to a parameter of its Llama.
std::set<std::string, std::less<>> ScaleNames(int64_t layers) {
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
  for (int64_t i = 0; i < layers; ++i) {
    for (const std::string_view name : kAttention) {
      names.insert(fmt::format("{}.self_attn.{}", LayerName(i), name));
    }
    for (const std::string& module : LinearModules(LayerName(i))) {
      names.insert(module + ".weight_scale");
      names.insert(module + ".input_scale");
    }
  }
  return names;
}

// Why a tensor that is not there may be missing; "" when nothing shows it.
std::string MissingHint(const std::string& name, const LlamaTensors& expected,
                        const Inventory& inventory) {
  for (const InspectedTensor& tensor : inventory.tensors) {
    if (const auto why = ExplainName(tensor.name, name)) {
      return fmt::format(", but {}: {}", Quoted(tensor.name), *why);
    }
  }
  const bool head = name == kHead && inventory.Find(kEmbedding) != nullptr;
  const bool embedding = name == kEmbedding && inventory.Find(kHead) != nullptr;
  if (!head && !embedding) return "";
  if (expected.tied) {
    return fmt::format(
        ", only {}; transformers 5 takes it for both, vLLM does not: quantize writes it under the "
        "name it needs",
        kHead);
  }
  return fmt::format(", only {}; if they are one matrix, set \"tie_word_embeddings\": true",
                     head ? kEmbedding : kHead);
}

std::string ShapeText(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

void CheckUnknown(const InspectedTensor& tensor, Findings& findings) {
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
  const bool ignored = std::any_of(kIgnored.begin(), kIgnored.end(), [&](std::string_view suffix) {
    return tensor.name.ends_with(suffix);
  });
  if (ignored) {
    findings.Warning("tensors that vLLM ignores",
                     fmt::format("tensor {} is ignored by vLLM", Quoted(tensor.name)));
  } else if (tensor.name != "lm_head.weight") {  // a tied model may still carry its copy
    const bool probability = tensor.name.ends_with(".prob_scale");
    findings.Error(
        "unknown tensors",
        fmt::format("unknown tensor {}: vLLM has no parameter for it{}", Quoted(tensor.name),
                    probability ? "; it knows the scale as prob_output_scale"
                                : UnknownTensorHint(tensor.name)));
  }
}

}  // namespace

std::optional<LlamaTensors> ExpectedLlamaTensors(const Json& config, Findings& findings) {
  try {
    if (IsLlama(config)) return Expected(config);
    findings.Warning("limits", "not a Llama: tensor names and shapes are not checked");
  } catch (const Error& error) {
    findings.Error("configuration errors", error.what());
  }
  return std::nullopt;
}

std::vector<std::vector<std::string>> FusedGroups(const std::string& layer) {
  return {{layer + ".self_attn.q_proj", layer + ".self_attn.k_proj", layer + ".self_attn.v_proj"},
          {layer + ".mlp.gate_proj", layer + ".mlp.up_proj"}};
}

std::vector<std::string> LinearModules(const std::string& layer) {
  std::vector<std::string> modules = {layer + ".self_attn.o_proj", layer + ".mlp.down_proj"};
  for (const std::vector<std::string>& group : FusedGroups(layer)) {
    modules.insert(modules.end(), group.begin(), group.end());
  }
  return modules;
}

void CheckLlamaTensors(const LlamaTensors& expected, const Inventory& inventory,
                       Findings& findings) {
  std::set<std::string, std::less<>> known = ScaleNames(expected.layers);
  int64_t explained = 0;
  if (inventory.tied_head_differs) {
    findings.Warning("heads",
                     fmt::format("config.json ties {} to {}, but both are stored and differ; vLLM "
                                 "0.32 and transformers 5 use the stored head, older ones drop it: "
                                 "set \"tie_word_embeddings\": false",
                                 kHead, kEmbedding));
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
    if (!known.contains(tensor.name)) CheckUnknown(tensor, findings);
  }
}

}  // namespace narrow
