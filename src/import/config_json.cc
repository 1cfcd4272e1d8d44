#include "import/config_json.h"

#include <map>
#include <string>
#include <utility>

#include "import/rope_scaling.h"
#include "import/shortest_decimal.h"

namespace narrow {
namespace {

Json IdOrNull(const std::optional<int64_t>& id) { return id ? Json(*id) : Json(nullptr); }

Json Sorted(const Json& object) {
  std::map<std::string, Json> members;
  for (const auto& [name, value] : object.items()) members.emplace(name, value);
  Json sorted = Json::object();
  for (auto& [name, value] : members) sorted[name] = std::move(value);
  return sorted;
}

}  // namespace

Json ConfigJson(const GgufMetadata& metadata, const GgufModel& model,
                const TokenizerSource& tokenizer) {
  const GgufArchitecture& architecture = *model.architecture;
  Json config = {{"architectures", Json::array({architecture.hugging_face})},
                 {"attention_dropout", 0.0},
                 {"bos_token_id", IdOrNull(tokenizer.bos)},
                 {"eos_token_id", IdOrNull(tokenizer.eos)},
                 {"head_dim", model.head_dim},
                 {"hidden_size", model.hidden},
                 {"initializer_range", 0.02},
                 {"intermediate_size", model.intermediate},
                 {"max_position_embeddings", model.context},
                 {"model_type", architecture.model_type},
                 {"num_attention_heads", model.heads},
                 {"num_hidden_layers", model.layers},
                 {"num_key_value_heads", model.kv_heads},
                 {"pad_token_id", IdOrNull(tokenizer.padding)},
                 {"rope_scaling", RopeScalingJson(metadata, model)},
                 {"rope_theta", ShortestDecimal(model.rope_theta)},
                 {"tie_word_embeddings", model.tied_embeddings},
                 {"torch_dtype", "bfloat16"},
                 {"use_cache", true},
                 {"vocab_size", model.vocabulary}};
  architecture.config(metadata, model, config);
  return Sorted(config);
}

Json GenerationConfigJson(const TokenizerSource& tokenizer) {
  Json eos = IdOrNull(tokenizer.eos);
  if (tokenizer.end_of_turn && tokenizer.end_of_turn != tokenizer.eos) {
    eos = tokenizer.eos ? Json::array({*tokenizer.eos, *tokenizer.end_of_turn})
                        : Json(*tokenizer.end_of_turn);
  }
  return {{"_from_model_config", true},
          {"bos_token_id", IdOrNull(tokenizer.bos)},
          {"eos_token_id", std::move(eos)},
          {"pad_token_id", IdOrNull(tokenizer.padding)}};
}

}  // namespace narrow
