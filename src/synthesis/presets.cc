#include "synthesis/presets.h"

#include <array>
#include <string>

#include "base/error.h"

namespace narrow {
namespace {

// What differs between the models of the family.
struct Dimensions {
  ModelPreset preset;
  int64_t hidden;
  int64_t intermediate;
  int64_t layers;
  int64_t query_heads;
  int64_t key_value_heads;
  int64_t vocabulary;
  int64_t max_positions;
};

constexpr std::array kDimensions = {
    Dimensions{{"llama-3.1-405b", "Llama 3.1 405B, 126 layers, 812 GB"},
               16384,
               53248,
               126,
               128,
               8,
               128256,
               131072},
    Dimensions{{"llama-3.1-70b", "Llama 3.1 70B, 80 layers, 141 GB"},
               8192,
               28672,
               80,
               64,
               8,
               128256,
               131072},
    Dimensions{
        {"llama-3.1-8b", "Llama 3.1 8B, 32 layers, 16 GB"}, 4096, 14336, 32, 32, 8, 128256, 131072},
    Dimensions{{"tiny", "the same architecture for tests, 2 layers, under 1 MB"},
               64,
               192,
               2,
               4,
               2,
               512,
               2048},
};

constexpr auto kPresets = [] {
  std::array<ModelPreset, kDimensions.size()> presets;
  for (std::size_t i = 0; i < presets.size(); ++i) presets[i] = kDimensions[i].preset;
  return presets;
}();

// Source: config.json of meta-llama/Llama-3.1-{8B,70B,405B}, revisions with 8 key-value heads.
Json MakeConfig(const Dimensions& model) {
  return Json{{"architectures", Json::array({"LlamaForCausalLM"})},
              {"attention_bias", false},
              {"attention_dropout", 0.0},
              {"bos_token_id", model.vocabulary == 128256 ? 128000 : 0},
              {"eos_token_id", model.vocabulary == 128256 ? 128001 : 1},
              {"hidden_act", "silu"},
              {"hidden_size", model.hidden},
              {"initializer_range", 0.02},
              {"intermediate_size", model.intermediate},
              {"max_position_embeddings", model.max_positions},
              {"mlp_bias", false},
              {"model_type", "llama"},
              {"num_attention_heads", model.query_heads},
              {"num_hidden_layers", model.layers},
              {"num_key_value_heads", model.key_value_heads},
              {"pretraining_tp", 1},
              {"rms_norm_eps", 1e-05},
              {"rope_scaling",
               {{"factor", 8.0},
                {"low_freq_factor", 1.0},
                {"high_freq_factor", 4.0},
                {"original_max_position_embeddings", model.max_positions / 16},
                {"rope_type", "llama3"}}},
              {"rope_theta", 500000.0},
              {"tie_word_embeddings", false},
              {"torch_dtype", "bfloat16"},
              {"use_cache", true},
              {"vocab_size", model.vocabulary}};
}

}  // namespace

std::span<const ModelPreset> ModelPresets() { return kPresets; }

Json PresetConfig(std::string_view name) {
  std::string known;
  for (const Dimensions& model : kDimensions) {
    if (model.preset.name == name) return MakeConfig(model);
    known += (known.empty() ? "" : ", ") + std::string(model.preset.name);
  }
  Fail(ErrorCode::kInvalidArgument, "there is no preset {}; expected one of {}", Quoted(name),
       known);
}

}  // namespace narrow
