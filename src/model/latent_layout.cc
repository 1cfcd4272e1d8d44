#include "model/latent_layout.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"

namespace narrow {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 16;
constexpr int64_t kMaxHeadSize = 4096;
// transformers' norms of latents have their class's epsilon, whatever the config says.
constexpr float kLatentEpsilon = 1e-6f;

}  // namespace

void ReadLatents(const Json& config, std::string_view what, DecoderConfig& result) {
  if (!OptionalInt(config, "q_lora_rank", what)) {
    Fail(ErrorCode::kUnsupported,
         "{}: \"q_lora_rank\" is not there: q without a latent is not supported; expected a number",
         what);
  }
  LatentHeads latent;
  latent.query_latent = ReadDimension(config, "q_lora_rank", what, kMaxSize);
  latent.key_value_latent = ReadDimension(config, "kv_lora_rank", what, kMaxSize);
  latent.plain = ReadDimension(config, "qk_nope_head_dim", what, kMaxHeadSize);
  latent.turned = ReadDimension(config, "qk_rope_head_dim", what, kMaxHeadSize);
  if (latent.turned % 2 != 0) {
    Fail(ErrorCode::kCorruptInput, "{}: \"qk_rope_head_dim\" is {}, expected an even number", what,
         latent.turned);
  }
  result.latent = latent;
  result.heads.key_value_heads = result.heads.query_heads;
  result.heads.head_size = latent.plain + latent.turned;
  result.heads.value_size = ReadDimension(config, "v_head_dim", what, kMaxHeadSize);
}

void ReadIndexer(const Json& config, std::string_view what, RotaryPairs pairs,
                 DecoderConfig& result) {
  const Json* kinds = OptionalArray(config, "indexer_types", what);
  for (int64_t i = 0; kinds != nullptr && i < std::ssize(*kinds); ++i) {
    const Json& kind = (*kinds)[static_cast<std::size_t>(i)];
    if (kind.is_string() && kind.get<std::string>() == "full") continue;
    Fail(ErrorCode::kUnsupported,
         "{}: \"indexer_types\" holds {}: layers that attend to what another selected are not "
         "supported; expected \"full\" for all",
         what, kind.dump());
  }
  LatentHeads::Indexer indexer;
  indexer.keys.heads = ReadDimension(config, "index_n_heads", what, kMaxHeadSize);
  indexer.keys.size = ReadDimension(config, "index_head_dim", what, kMaxHeadSize);
  indexer.keys.count = ReadDimension(config, "index_topk", what, kMaxDimension);
  indexer.pairs = pairs;
  if (indexer.keys.size < result.latent->turned) {
    Fail(ErrorCode::kCorruptInput, "{}: \"index_head_dim\" is {}, expected {} or more", what,
         indexer.keys.size, result.latent->turned);
  }
  result.latent->indexer = indexer;
}

float YarnScoreFactor(const Json& config, std::string_view what) {
  const Json* rope = OptionalObject(config, "rope_scaling", what);
  if (rope == nullptr || rope->empty()) rope = OptionalObject(config, "rope_parameters", what);
  if (rope == nullptr) return 1.0f;
  const double strength = OptionalNumber(*rope, "mscale_all_dim", what).value_or(0.0);
  const double factor = OptionalNumber(*rope, "factor", what).value_or(1.0);
  if (strength == 0.0 || factor <= 1.0) return 1.0f;
  const double scale = 0.1 * strength * std::log(factor) + 1.0;
  return static_cast<float>(scale * scale);
}

void PutLatents(const DecoderConfig& config, LayerSpec& spec) {
  const LatentHeads& latent = *config.latent;
  const AttentionHeads& heads = config.heads;
  spec.attention.form = latent;
  spec.attention.rotary = {config.rope, latent.turned, config.rotary_pairs};
  std::erase_if(spec.linears, [](const LinearSpec& linear) {
    return linear.group == LinearGroup::kQueryKeyValue ||
           linear.group == LinearGroup::kAttentionOutput;
  });
  std::vector<LinearSpec> linears;
  const auto add = [&](std::string_view name, WeightRole role, LinearGroup group, int64_t rows,
                       int64_t columns, Bias bias) {
    LinearSpec& linear = linears.emplace_back();
    linear.module = fmt::format("{}.{}", spec.attention_module, name);
    linear.role = role;
    linear.group = group;
    linear.rows = rows;
    linear.columns = columns;
    linear.bias = bias;
  };
  add("q_a_proj", WeightRole::kQueryLatent, LinearGroup::kQueryKeyValue, latent.query_latent,
      config.hidden, config.query_key_value_bias);
  add("kv_a_proj_with_mqa", WeightRole::kKeyValueLatent, LinearGroup::kQueryKeyValue,
      latent.key_value_latent + latent.turned, config.hidden, config.query_key_value_bias);
  add("q_b_proj", WeightRole::kQueryFromLatent, LinearGroup::kQueryFromLatent, heads.query_width(),
      latent.query_latent, Bias::kNone);
  if (latent.indexer) {
    const KeyScores& keys = latent.indexer->keys;
    add("indexer.wq_b", WeightRole::kIndexer, LinearGroup::kIndexQueries, keys.heads * keys.size,
        latent.query_latent, Bias::kNone);
    add("indexer.wk", WeightRole::kIndexer, LinearGroup::kIndexKeys, keys.size, config.hidden,
        Bias::kNone);
    add("indexer.weights_proj", WeightRole::kIndexer, LinearGroup::kIndexKeys, keys.heads,
        config.hidden, Bias::kNone);
    for (LinearSpec& linear : linears) {
      if (linear.role == WeightRole::kIndexer) {
        linear.treatment = LinearSpec::Treatment::kAsStored;
      }
    }
    const std::string module = spec.attention_module + ".indexer.k_norm";
    spec.Norm(NormPlace::kIndexKey) = NormSpec{.weight = module + ".weight",
                                               .size = keys.size,
                                               .epsilon = kLatentEpsilon,
                                               .kind = NormSpec::Kind::kLayer,
                                               .bias = module + ".bias"};
  }
  add("kv_b_proj", WeightRole::kKeyValueFromLatent, LinearGroup::kKeyValueFromLatent,
      heads.query_heads * (latent.plain + heads.value_size), latent.key_value_latent, Bias::kNone);
  add("o_proj", WeightRole::kAttentionOutput, LinearGroup::kAttentionOutput, config.hidden,
      heads.attended_width(), config.attention_output_bias);
  spec.linears.insert(spec.linears.begin(), linears.begin(), linears.end());
  const auto norm = [&](std::string_view name, int64_t size) {
    return NormSpec{.weight = fmt::format("{}.{}.weight", spec.attention_module, name),
                    .size = size,
                    .epsilon = kLatentEpsilon};
  };
  spec.Norm(NormPlace::kQueryLatent) = norm("q_a_layernorm", latent.query_latent);
  spec.Norm(NormPlace::kKeyValueLatent) = norm("kv_a_layernorm", latent.key_value_latent);
}

}  // namespace narrow
