#include "import/architecture.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "import/architecture_configs.h"

namespace narrow {
namespace {

using Rows = GgufArchitecture::Rows;
using Mlp = GgufArchitecture::Mlp;
using Size = GgufNorm::Size;

constexpr GgufNorm kBeforeEach[] = {{"attn_norm", "input_layernorm"},
                                    {"ffn_norm", "post_attention_layernorm"}};
constexpr GgufNorm kBeforeEachAndHeads[] = {{"attn_norm", "input_layernorm"},
                                            {"ffn_norm", "post_attention_layernorm"},
                                            {"attn_q_norm", "self_attn.q_norm", Size::kHead},
                                            {"attn_k_norm", "self_attn.k_norm", Size::kHead}};
constexpr GgufNorm kAround[] = {{"attn_norm", "input_layernorm"},
                                {"post_attention_norm", "post_attention_layernorm"},
                                {"ffn_norm", "pre_feedforward_layernorm"},
                                {"post_ffw_norm", "post_feedforward_layernorm"}};
constexpr GgufNorm kAroundAndHeads[] = {{"attn_norm", "input_layernorm"},
                                        {"post_attention_norm", "post_attention_layernorm"},
                                        {"ffn_norm", "pre_feedforward_layernorm"},
                                        {"post_ffw_norm", "post_feedforward_layernorm"},
                                        {"attn_q_norm", "self_attn.q_norm", Size::kHead},
                                        {"attn_k_norm", "self_attn.k_norm", Size::kHead}};
constexpr GgufNorm kAfterEach[] = {{"post_attention_norm", "post_attention_layernorm"},
                                   {"post_ffw_norm", "post_feedforward_layernorm"},
                                   {"attn_q_norm", "self_attn.q_norm", Size::kQuery},
                                   {"attn_k_norm", "self_attn.k_norm", Size::kKey}};
constexpr GgufNorm kAfterEachAndHeads[] = {{"post_attention_norm", "post_attention_layernorm"},
                                           {"post_ffw_norm", "post_feedforward_layernorm"},
                                           {"attn_q_norm", "self_attn.q_norm", Size::kHead},
                                           {"attn_k_norm", "self_attn.k_norm", Size::kHead}};
constexpr GgufNorm kBeforeEachAndLayers[] = {
    {"attn_norm", "input_layernorm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"attn_q_norm", "self_attn.query_layernorm", Size::kHead},
    {"attn_k_norm", "self_attn.key_layernorm", Size::kHead}};
constexpr GgufNorm kAroundBlocks[] = {{"attn_norm", "input_layernorm"},
                                      {"post_attention_norm", "post_self_attn_layernorm"},
                                      {"ffn_norm", "post_attention_layernorm"},
                                      {"post_ffw_norm", "post_mlp_layernorm"}};
constexpr GgufNorm kBeforeEachNamedPost[] = {{"attn_norm", "input_layernorm"},
                                             {"post_attention_norm", "post_attention_layernorm"}};
constexpr GgufNorm kOneForBoth[] = {{"attn_norm", "input_layernorm"},
                                    {"attn_q_norm", "self_attn.q_norm", Size::kQueryHeads, true},
                                    {"attn_k_norm", "self_attn.k_norm", Size::kKeyHeads, true}};

constexpr std::string_view kLayerNorm = "attention.layer_norm_epsilon";

constexpr std::string_view kGraniteKeys[] = {"attention.scale", "embedding_scale", "logit_scale",
                                             "residual_scale"};
constexpr std::string_view kGemma2Keys[] = {"attention.sliding_window", "attn_logit_softcapping",
                                            "final_logit_softcapping"};
constexpr std::string_view kGemma3Keys[] = {"attention.sliding_window", "final_logit_softcapping"};
constexpr std::string_view kPhi3Keys[] = {"attention.sliding_window", "rope.dimension_count",
                                          "rope.scaling.attn_factor"};
constexpr std::string_view kPartialKeys[] = {"rope.dimension_count"};
constexpr std::string_view kWindowKeys[] = {"attention.sliding_window"};
constexpr std::string_view kMinistral3Keys[] = {"rope.scaling.yarn_log_multiplier"};
constexpr std::string_view kCohereKeys[] = {"logit_scale"};
constexpr std::string_view kCohere2Keys[] = {"attention.sliding_window", "logit_scale"};

constexpr auto kPaired = Rows::kPaired;
constexpr auto kNoOutputBias = GgufArchitecture::OutputBias::kNever;

constexpr GgufArchitecture kArchitectures[] = {
    {.name = "llama",
     .hugging_face = "LlamaForCausalLM",
     .model_type = "llama",
     .rows = kPaired,
     .norms = kBeforeEach,
     .config = LlamaConfig},
    {.name = "qwen2",
     .hugging_face = "Qwen2ForCausalLM",
     .model_type = "qwen2",
     .output_bias = kNoOutputBias,
     .norms = kBeforeEach,
     .config = Qwen2Config},
    {.name = "qwen3",
     .hugging_face = "Qwen3ForCausalLM",
     .model_type = "qwen3",
     .norms = kBeforeEachAndHeads,
     .config = Qwen3Config},
    {.name = "granite",
     .hugging_face = "GraniteForCausalLM",
     .model_type = "granite",
     .rows = kPaired,
     .norms = kBeforeEach,
     .keys = kGraniteKeys,
     .config = GraniteConfig},
    {.name = "smollm3",
     .hugging_face = "SmolLM3ForCausalLM",
     .model_type = "smollm3",
     .rows = kPaired,
     .norms = kBeforeEach,
     .config = SmolLm3Config},
    {.name = "gemma",
     .hugging_face = "GemmaForCausalLM",
     .model_type = "gemma",
     .norm_offset = 1,
     .norms = kBeforeEach,
     .pieces = PieceOrder::kIds,
     .config = GemmaConfig},
    {.name = "gemma2",
     .hugging_face = "Gemma2ForCausalLM",
     .model_type = "gemma2",
     .norm_offset = 1,
     .norms = kAround,
     .pieces = PieceOrder::kIds,
     .keys = kGemma2Keys,
     .config = Gemma2Config},
    {.name = "gemma3",
     .hugging_face = "Gemma3ForCausalLM",
     .model_type = "gemma3_text",
     .norm_offset = 1,
     .norms = kAroundAndHeads,
     .pieces = PieceOrder::kIds,
     .keys = kGemma3Keys,
     .config = Gemma3Config},
    {.name = "phi3",
     .hugging_face = "Phi3ForCausalLM",
     .model_type = "phi3",
     .attention = GgufArchitecture::Attention::kFused,
     .mlp = Mlp::kFusedGate,
     .norms = kBeforeEach,
     .keys = kPhi3Keys,
     .config = Phi3Config},
    {.name = "olmo2",
     .hugging_face = "Olmo3ForCausalLM",
     .marked_by = "attention.sliding_window",
     .model_type = "olmo3",
     .norms = kAfterEach,
     .keys = kWindowKeys,
     .config = Olmo3Config},
    {.name = "olmo2",
     .hugging_face = "Olmo2ForCausalLM",
     .model_type = "olmo2",
     .norms = kAfterEach,
     .config = Olmo2Config},
    {.name = "starcoder2",
     .hugging_face = "Starcoder2ForCausalLM",
     .model_type = "starcoder2",
     .mlp = Mlp::kPlainNamed,
     .epsilon = kLayerNorm,
     .norms = kBeforeEach,
     .config = Starcoder2Config},
    {.name = "nemotron",
     .hugging_face = "NemotronForCausalLM",
     .model_type = "nemotron",
     .mlp = Mlp::kPlain,
     .norm_offset = 1,
     .epsilon = kLayerNorm,
     .norms = kBeforeEach,
     .keys = kPartialKeys,
     .config = NemotronConfig},
    {.name = "command-r",
     .hugging_face = "CohereForCausalLM",
     .model_type = "cohere",
     .epsilon = kLayerNorm,
     .norms = kOneForBoth,
     .keys = kCohereKeys,
     .config = CohereConfig},
    {.name = "cohere2",
     .hugging_face = "Cohere2ForCausalLM",
     .model_type = "cohere2",
     .epsilon = kLayerNorm,
     .norms = kOneForBoth,
     .keys = kCohere2Keys,
     .config = Cohere2Config},
    {.name = "glm4",
     .hugging_face = "Glm4ForCausalLM",
     .model_type = "glm4",
     .output_bias = kNoOutputBias,
     .mlp = Mlp::kFusedGate,
     .norms = kAroundBlocks,
     .keys = kPartialKeys,
     .config = Glm4Config},
    {.name = "ernie4_5",
     .hugging_face = "Ernie4_5ForCausalLM",
     .model_type = "ernie4_5",
     .norms = kBeforeEach,
     .config = Ernie45Config},
    {.name = "seed_oss",
     .hugging_face = "SeedOssForCausalLM",
     .model_type = "seed_oss",
     .output_bias = kNoOutputBias,
     .norms = kBeforeEachNamedPost,
     .config = SeedOssConfig},
    {.name = "exaone4",
     .hugging_face = "Exaone4ForCausalLM",
     .model_type = "exaone4",
     .norms = kAfterEachAndHeads,
     .keys = kWindowKeys,
     .config = Exaone4Config},
    {.name = "hunyuan-dense",
     .hugging_face = "HunYuanDenseV1ForCausalLM",
     .model_type = "hunyuan_v1_dense",
     .norms = kBeforeEachAndLayers,
     .config = HunYuanDenseConfig},
    {.name = "mistral3",
     .hugging_face = "Ministral3ForCausalLM",
     .model_type = "ministral3",
     .rows = kPaired,
     .norms = kBeforeEach,
     .keys = kMinistral3Keys,
     .config = Ministral3Config},
    {.name = "stablelm",
     .hugging_face = "StableLmForCausalLM",
     .model_type = "stablelm",
     .output_bias = kNoOutputBias,
     .epsilon = kLayerNorm,
     .norms = kBeforeEach,
     .keys = kPartialKeys,
     .config = StableLmConfig},
};

}  // namespace

std::span<const GgufArchitecture> GgufArchitectures() { return kArchitectures; }

const GgufArchitecture& FindGgufArchitecture(const GgufMetadata& metadata) {
  const std::string name = metadata.String("general.architecture");
  std::string known;
  for (const GgufArchitecture& row : kArchitectures) {
    const bool marked =
        row.marked_by.empty() || metadata.Has(fmt::format("{}.{}", row.name, row.marked_by));
    if (row.name == name && marked) return row;
    if (row.marked_by.empty()) known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  Fail(ErrorCode::kUnsupported, "{}: architecture {} is not imported; these are: {}",
       metadata.what(), Quoted(name), known);
}

}  // namespace narrow
