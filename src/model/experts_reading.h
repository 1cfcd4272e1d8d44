// Reads what the config.json of families with experts have in common.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "io/json.h"
#include "model/config.h"

namespace narrow {

// Which members say what of a model's experts; the first that is there counts.
struct ExpertMembers {
  std::string_view count = "num_experts";
  std::string_view other_count = "";  // another name of it
  std::string_view per_token = "num_experts_per_tok";
  std::string_view width = "moe_intermediate_size";
  std::string_view shared_width = "";
  // Taken where a member is not there; 0: the config has to say it.
  int64_t absent_count = 0, absent_per_token = 0, absent_width = 0;
};

// The counts and sizes of result.experts, in every layer. Throws: kCorruptInput.
void ReadExperts(const Json& config, std::string_view what, const ExpertMembers& members,
                 DecoderConfig& result);

// Shared experts of the same width, "n_shared_experts" of them, which are one MLP.
void ReadSharedExperts(const Json& config, std::string_view what, int64_t absent,
                       DecoderConfig& result);

// DeepSeek's routing: sigmoids with a correction, in groups ("n_group", "topk_group"),
// renormalized ("norm_topk_prob") and scaled ("routed_scaling_factor", or `absent_scale`). Throws:
// kCorruptInput. Source: DeepSeek-V3 Technical Report, section 2.1.2; transformers 5,
// models/deepseek_v3.
void ReadGroupedRouting(const Json& config, std::string_view what, double absent_scale,
                        DecoderConfig& result);

// Leaves experts to the layers that `has` names.
void ChooseExpertLayers(const std::function<bool(int64_t layer)>& has, DecoderConfig& result);

// Of Qwen's MoE models: layers that "mlp_only_layers" names, and all but every last of
// "decoder_sparse_step", are dense. Throws: kCorruptInput.
void ReadSparseLayers(const Json& config, std::string_view what, DecoderConfig& result);

}  // namespace narrow
