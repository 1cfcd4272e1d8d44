#include "model/decoder_layout.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace narrow {

NormSpec DecoderNorm(const DecoderConfig& config, const std::string& module) {
  return {.weight = module + ".weight",
          .size = config.hidden,
          .epsilon = config.norm_epsilon,
          .kind = config.norms.kind,
          .offset = config.norms.offset,
          .bias = config.norms.bias == Bias::kPresent ? module + ".bias" : ""};
}

LayerSpec DecoderLayout(const DecoderConfig& config, int64_t layer) {
  const std::string prefix = fmt::format("{}layers.{}.", config.names.body, layer);
  const std::string attention = prefix + "self_attn";
  const std::string mlp = prefix + "mlp";
  const int64_t hidden = config.hidden;
  const int64_t queries = config.query_width();
  const int64_t keys = config.key_value_width();
  LayerSpec spec;
  spec.attention_module = attention;
  spec.hidden = hidden;
  spec.attention.heads = config.heads;
  spec.attention.scores.scale = config.score_scale != 0.0f
                                    ? config.score_scale
                                    : 1.0f / std::sqrt(static_cast<float>(config.heads.head_size));
  spec.attention.scores.softcap = config.score_softcap;
  spec.attention.scores.window = config.window(layer);
  if (config.rotates(layer)) {
    const double width = static_cast<double>(config.heads.head_size) * config.rotary_share;
    const bool local = config.window_rope && config.window(layer) > 0;
    spec.attention.rotary = {local ? *config.window_rope : config.rope, static_cast<int64_t>(width),
                             config.rotary_pairs};
  }
  spec.attention.temperature = config.temperature;
  spec.attention.residual_scale = spec.mlp->residual_scale = config.residual_scale;
  spec.mlp->activation = config.activation;
  spec.mlp->width = config.intermediate;
  spec.Norm(NormPlace::kBeforeAttention) = DecoderNorm(config, prefix + "input_layernorm");
  spec.Norm(NormPlace::kBeforeMlp) = DecoderNorm(config, prefix + "post_attention_layernorm");
  spec.linears = {
      LinearSpec{attention + ".q_proj", WeightRole::kQuery, LinearGroup::kQueryKeyValue, queries,
                 hidden, config.query_key_value_bias},
      LinearSpec{attention + ".k_proj", WeightRole::kKey, LinearGroup::kQueryKeyValue, keys, hidden,
                 config.query_key_value_bias},
      LinearSpec{attention + ".v_proj", WeightRole::kValue, LinearGroup::kQueryKeyValue, keys,
                 hidden, config.query_key_value_bias},
      LinearSpec{attention + ".o_proj", WeightRole::kAttentionOutput, LinearGroup::kAttentionOutput,
                 hidden, queries, config.attention_output_bias},
      LinearSpec{mlp + ".gate_proj", WeightRole::kGate, LinearGroup::kGateUp, config.intermediate,
                 hidden, config.mlp_bias},
      LinearSpec{mlp + ".up_proj", WeightRole::kUp, LinearGroup::kGateUp, config.intermediate,
                 hidden, config.mlp_bias},
      LinearSpec{mlp + ".down_proj", WeightRole::kDown, LinearGroup::kDown, hidden,
                 config.intermediate, config.mlp_bias},
  };
  return spec;
}

ModelSpec DecoderModel(const DecoderConfig& config) {
  ModelSpec spec;
  spec.embedding = config.names.body + "embed_tokens.weight";
  spec.final_norm = DecoderNorm(config, config.names.body + "norm");
  spec.embedding_scale = config.embedding_scale;
  spec.logit_scale = config.logit_scale;
  spec.logit_softcap = config.logit_softcap;
  spec.lm_head_module = config.names.head;
  spec.lm_head = config.lm_head == DecoderConfig::LmHead::kTied ? spec.embedding
                                                                : config.names.head + ".weight";
  return spec;
}

void NormAfterBlocks(const DecoderConfig& config, LayerSpec& spec) {
  const std::string prefix = LayerPrefix(spec);
  spec.Norm(NormPlace::kBeforeAttention) = spec.Norm(NormPlace::kBeforeMlp) = std::nullopt;
  spec.Norm(NormPlace::kAfterAttention) = DecoderNorm(config, prefix + "post_attention_layernorm");
  spec.Norm(NormPlace::kAfterMlp) = DecoderNorm(config, prefix + "post_feedforward_layernorm");
}

void NormHeads(const DecoderConfig& config, std::string_view query, std::string_view key,
               LayerSpec& spec) {
  for (const auto& [place, name] : {std::pair(NormPlace::kQuery, query), {NormPlace::kKey, key}}) {
    NormSpec norm = DecoderNorm(config, spec.attention_module + '.' + std::string(name));
    norm.size = config.heads.head_size;
    spec.Norm(place) = norm;
  }
}

void StoreTogether(LayerSpec& spec, LinearGroup group, WeightRole role, std::string_view name) {
  const auto first = std::ranges::find(spec.linears, group, &LinearSpec::group);
  NARROW_CHECK(first != spec.linears.end());
  LinearSpec whole = *first;
  whole.module = whole.module.substr(0, whole.module.rfind('.') + 1).append(name);
  whole.role = role;
  whole.rows = 0;
  auto last = first;
  for (; last != spec.linears.end() && last->group == group; ++last) whole.rows += last->rows;
  *first = whole;
  spec.linears.erase(first + 1, last);
}

std::string LayerPrefix(const LayerSpec& spec) {
  return spec.attention_module.substr(0, spec.attention_module.rfind('.') + 1);
}

void LeaveOutGate(LayerSpec& spec, std::string_view up, std::string_view down) {
  spec.mlp->gate = MlpBlock::Gate::kNone;
  std::erase_if(spec.linears,
                [](const LinearSpec& linear) { return linear.role == WeightRole::kGate; });
  for (LinearSpec& linear : spec.linears) {
    const bool is_up = linear.role == WeightRole::kUp;
    if (!is_up && linear.role != WeightRole::kDown) continue;
    linear.module = fmt::format("{}mlp.{}", LayerPrefix(spec), is_up ? up : down);
  }
}

namespace {

// The two or three linears of an expert, by name, or as parts of tensors of all experts.
void AddExpert(const DecoderConfig& config, const ExpertNames& names, const std::string& prefix,
               int64_t expert, ExpertsBlock& block) {
  const ExpertsConfig& experts = config.experts;
  const std::string module = fmt::format("{}.{}.", block.module, expert);
  const auto add = [&](std::string_view name, WeightRole role, LinearGroup group, int64_t rows,
                       int64_t columns) -> LinearSpec& {
    return block.linears.emplace_back(
        LinearSpec{module + std::string(name), role, group, rows, columns, experts.bias});
  };
  const auto part = [&](std::string_view tensor, std::string_view bias, int64_t rows) {
    TensorPart result;
    result.tensor = prefix + std::string(tensor);
    if (experts.bias == Bias::kPresent) result.bias = prefix + std::string(bias);
    result.experts = experts.count;
    result.expert = expert;
    result.rows = rows;
    result.transposed = names.transposed;
    return result;
  };
  const int64_t width = experts.width;
  LinearSpec gate = add(names.gate, WeightRole::kGate, LinearGroup::kGateUp, width, config.hidden);
  LinearSpec up = add(names.up, WeightRole::kUp, LinearGroup::kGateUp, width, config.hidden);
  LinearSpec down = add(names.down, WeightRole::kDown, LinearGroup::kDown, config.hidden, width);
  if (experts.storage == ExpertsConfig::Storage::kStacked) {
    const bool turns = names.gate_up_rows == ExpertNames::Rows::kTakingTurns;
    gate.part = up.part = part(names.all_gate_up, names.all_gate_up_bias, 2 * width);
    gate.part->row_step = up.part->row_step = turns ? 2 : 1;
    up.part->first_row = turns ? 1 : width;
    down.part = part(names.all_down, names.all_down_bias, config.hidden);
  }
  const auto first = block.linears.end() - 3;
  first[0] = gate;
  first[1] = up;
  first[2] = down;
}

}  // namespace

void PutExperts(const DecoderConfig& config, int64_t layer, const ExpertNames& names,
                LayerSpec& spec) {
  const ExpertsConfig& experts = config.experts;
  if (!experts.In(layer)) return;
  const std::string prefix = LayerPrefix(spec);
  ExpertsBlock block;
  block.module = prefix + std::string(names.module);
  block.router = prefix + std::string(names.router);
  if (!names.correction.empty()) block.correction = prefix + std::string(names.correction);
  block.count = experts.count;
  block.per_token = experts.per_token;
  block.routing = experts.routing;
  block.router_bias = experts.bias;
  block.mlp = *spec.mlp;
  block.mlp.width = experts.width;
  block.mlp.clamped = experts.clamped;
  for (int64_t e = 0; e < experts.count; ++e) AddExpert(config, names, prefix, e, block);
  spec.experts = std::move(block);
  const auto of_mlp = [](const LinearSpec& linear) {
    return linear.group == LinearGroup::kGateUp || linear.group == LinearGroup::kDown;
  };
  if (experts.shared_width == 0) {
    spec.mlp = std::nullopt;
    std::erase_if(spec.linears, of_mlp);
    return;
  }
  spec.mlp->width = experts.shared_width;
  if (!names.token_gate.empty()) spec.mlp->token_gate = prefix + std::string(names.token_gate);
  for (LinearSpec& linear : spec.linears) {
    if (!of_mlp(linear)) continue;
    const std::string last = linear.module.substr(linear.module.rfind('.'));
    linear.module = prefix + std::string(names.shared) + last;
    (linear.group == LinearGroup::kDown ? linear.columns : linear.rows) = experts.shared_width;
  }
}

bool IsPredictor(const DecoderConfig& config, std::string_view name) {
  if (name.starts_with("mtp.")) return true;
  const std::string layers = config.names.body + "layers.";
  if (!name.starts_with(layers)) return false;
  int64_t layer = 0;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + layers.size(), end, layer);
  return error == std::errc() && rest != end && *rest == '.' && layer >= config.layers;
}

bool IsRotaryTable(std::string_view name) {
  for (const std::string_view table :
       {"rotary_emb.inv_freq", "rotary_emb.original_inv_freq", "rotary_pos_emb.inv_freq",
        "rotary_emb.cos_cached", "rotary_emb.sin_cached"}) {
    const bool ends = name.ends_with(table);
    if (ends && (name.size() == table.size() || name[name.size() - table.size() - 1] == '.')) {
      return true;
    }
  }
  return false;
}

}  // namespace narrow
