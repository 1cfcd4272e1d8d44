#include "model/module_names.h"

#include <fnmatch.h>

#include <algorithm>
#include <charconv>

namespace narrow {
namespace {

// Of a config with parts (language and vision), that of the language model.
const Json& TextConfig(const Json& config) {
  const auto text = config.find("text_config");
  return text != config.end() && text->is_object() ? *text : config;
}

std::optional<int64_t> Number(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end() || !found->is_number_integer()) return std::nullopt;
  return found->get<int64_t>();
}

bool MatchesAny(const std::string& module, std::string_view patterns) {
  while (!patterns.empty()) {
    const std::string pattern(patterns.substr(0, patterns.find(' ')));
    if (fnmatch(pattern.c_str(), module.c_str(), 0) == 0) return true;
    patterns.remove_prefix(std::min(patterns.size(), pattern.size() + 1));
  }
  return false;
}

std::string_view LastPart(std::string_view module) {
  return module.substr(module.rfind('.') + 1);  // npos + 1 is 0
}

// The first number among the parts of a name.
std::optional<int64_t> LayerNumber(std::string_view module) {
  while (!module.empty()) {
    const std::string_view part = module.substr(0, module.find('.'));
    int64_t number = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    if (error == std::errc() && end == part.data() + part.size()) return number;
    module.remove_prefix(std::min(module.size(), part.size() + 1));
  }
  return std::nullopt;
}

}  // namespace

const std::vector<StayingKind>& StayingKinds() {
  static const std::vector<StayingKind> kinds = {
      {"embedding", "*embed_tokens* *embedding* *embeddings.* *.wte *.wpe wte wpe *embed_in"},
      {"head", "*lm_head *embed_out score *.score classifier *.classifier"},
      {"norm", "*norm *_norm.* *layernorm* *.ln_*"},
      {"router", "*.gate *.router *.router.* *.shared_expert_gate *.gate.wg"},
      {"indexer", "*.indexer.*"},
      {"convolution", "*conv1d *conv2d *.conv *conv.*"},
      {"vision or audio",
       "*vision* visual.* *.visual.* *image* *audio* *multi_modal_projector* *mm_projector*"},
      {"next-token prediction", "mtp.* *.mtp.* *.mtp_* *.eh_proj *nextn*"},
  };
  return kinds;
}

std::optional<std::string> ReasonToStay(std::string_view module, int64_t rows, const Json& config) {
  const std::string name(module);
  for (const StayingKind& kind : StayingKinds()) {
    if (MatchesAny(name, kind.patterns)) return std::string(kind.reason);
  }
  const Json& text = TextConfig(config);
  const std::optional<int64_t> layer = LayerNumber(module);
  if (!layer && rows == Number(text, "vocab_size")) return "as many rows as the vocabulary";
  const std::optional<int64_t> layers = Number(text, "num_hidden_layers");
  if (layer && layers && *layer >= *layers) return "next-token prediction";
  return std::nullopt;
}

const std::vector<FusedParts>& FusedModules() {
  static const std::vector<FusedParts> fused = {
      {"qkv_proj", {"q_proj", "k_proj", "v_proj"}},
      {"gate_up_proj", {"gate_proj", "up_proj"}},
      {"w13", {"w1", "w3"}},
      {"fused_qkv_a_proj", {"q_a_proj", "kv_a_proj_with_mqa"}},
      {"fused_wqkv_a", {"wq_a", "wkv_a_with_mqa"}},
      {"in_proj_qkvz", {"in_proj_qkv", "in_proj_z"}},
      {"in_proj_ba", {"in_proj_b", "in_proj_a"}},
  };
  return fused;
}

std::optional<FusedPlace> FusedPlaceOf(std::string_view module) {
  const std::string_view last = LastPart(module);
  for (const FusedParts& fused : FusedModules()) {
    const auto part = std::ranges::find(fused.parts, last);
    if (part == fused.parts.end()) continue;
    const std::string parent(module.substr(0, module.size() - last.size()));
    return FusedPlace{parent + std::string(fused.fused),
                      static_cast<int>(part - fused.parts.begin())};
  }
  return std::nullopt;
}

std::string ExpertsOf(std::string_view module) {
  constexpr std::string_view kExperts = ".experts.";
  const std::size_t at = module.find(kExperts);
  if (at == module.npos) return "";
  const std::string_view rest = module.substr(at + kExperts.size());
  if (rest.empty() || rest[0] < '0' || rest[0] > '9') return "";
  return std::string(module.substr(0, at + kExperts.size() - 1));
}

std::vector<int64_t> StoredParts(std::string_view module, int64_t rows, const Json& config) {
  const std::string_view last = LastPart(module);
  if (last == "gate_up_proj" && rows % 2 == 0) return {rows / 2, rows / 2};
  if (last != "qkv_proj") return {rows};
  const Json& text = TextConfig(config);
  const std::optional<int64_t> heads = Number(text, "num_attention_heads");
  const int64_t kv_heads = Number(text, "num_key_value_heads").value_or(heads.value_or(0));
  if (!heads || *heads <= 0 || kv_heads <= 0 || *heads > rows || kv_heads > rows) return {rows};
  const int64_t head = rows / (*heads + 2 * kv_heads);
  if (head * (*heads + 2 * kv_heads) != rows) return {rows};
  return {*heads * head, kv_heads * head, kv_heads * head};
}

}  // namespace narrow
