// What llama.cpp calls the model families, and what it does to their tensors.
#pragma once

#include <span>
#include <string_view>

#include "import/metadata.h"
#include "import/tokenizer_source.h"
#include "io/json.h"

namespace narrow {

struct GgufModel;

// A vector of a layer and what it is called on both sides, with ".weight" and ".bias" left out.
struct GgufNorm {
  // [hidden], [head], [heads * head] of q and of k, and [heads, head] of q and of k.
  enum class Size { kHidden, kHead, kQuery, kKey, kQueryHeads, kKeyHeads };
  std::string_view gguf;
  std::string_view hugging_face;
  Size size = Size::kHidden;
  bool optional = false;  // there in every layer where it is in the first
};

// One row a family. Source of the names: gguf-py 0.19, constants.py and tensor_mapping.py; of what
// is done to tensors and metadata: convert_hf_to_gguf.py of llama.cpp (2025).
struct GgufArchitecture {
  enum class Rows {
    kSame,    // as in Hugging Face's checkpoint
    kPaired,  // of each head of q and k, the two that rotate together side by side
  };
  enum class Attention { kParts, kFused };  // attn_q, attn_k, attn_v or attn_qkv
  enum class Mlp {
    kGated,       // gate_proj, up_proj, down_proj
    kFusedGate,   // gate_up_proj in ffn_up
    kPlain,       // up_proj, down_proj
    kPlainNamed,  // c_fc, c_proj
  };
  enum class OutputBias { kAsOthers, kNever };  // of o_proj, where q, k and v have one

  std::string_view name;  // general.architecture
  std::string_view hugging_face;
  // Of families that share a name, a key of the architecture that the files of this one alone have.
  std::string_view marked_by = "";
  std::string_view model_type;
  Rows rows = Rows::kSame;
  Attention attention = Attention::kParts;
  OutputBias output_bias = OutputBias::kAsOthers;
  Mlp mlp = Mlp::kGated;
  float norm_offset = 0;  // llama.cpp has added it to the weight of every norm
  std::string_view epsilon = "attention.layer_norm_rms_epsilon";
  std::span<const GgufNorm> norms{};
  PieceOrder pieces = PieceOrder::kScores;
  // Keys that `config` reads; at others of the kind the model would compute something else.
  std::span<const std::string_view> keys{};
  // Adds the family's own members to config.json. Throws: as GgufMetadata; kUnsupported.
  void (*config)(const GgufMetadata& metadata, const GgufModel& model, Json& config) = nullptr;
};

std::span<const GgufArchitecture> GgufArchitectures();

// The row of general.architecture. Throws: kUnsupported naming it and what is known.
const GgufArchitecture& FindGgufArchitecture(const GgufMetadata& metadata);

}  // namespace narrow
