// A model family: how its config is read and what its tensors are called. One file per family in
// families/ and one row in the table of family.cc.
#pragma once

#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint_reader.h"
#include "io/json.h"
#include "model/config.h"
#include "model/decoder_layout.h"
#include "model/spec.h"

namespace narrow {

struct ModelFamily {
  std::string_view architecture;  // entry of "architectures" in config.json
  std::string_view model_type;    // "model_type", which decides where there are no architectures
  std::string_view description;
  // What names and shapes of the tensors follow from, and no more: for whoever looks at checkpoints
  // that no job could start from. Throws: kCorruptInput for sizes that cannot be.
  DecoderConfig (*parse_shapes)(const Json& config, std::string_view what);
  // Throws: kCorruptInput for a config that contradicts itself, kUnsupported naming the feature.
  DecoderConfig (*parse_config)(const Json& config, std::string_view what);
  LayerSpec (*layer)(const DecoderConfig& config, int64_t layer) = &DecoderLayout;
  ModelSpec (*model)(const DecoderConfig& config) = &DecoderModel;
  // Whether predictions collapse in a text that does not begin with the begin of text, so that
  // evaluation puts one at the start of every window.
  bool begins_windows = false;
  // Whether checkpoints may hold layers that predict further tokens (IsPredictor), which are
  // copied.
  bool predicts_further = false;
  // Whether vLLM 0.32 loads FP8 experts with static scales of a family, by the names of each
  // expert; where it does not, they stay as they are.
  enum class Experts { kQuantized, kKept } experts = Experts::kQuantized;
  // Under which names vLLM 0.32 loads scales of the KV cache for it: those of the projections, too,
  // or those of the attention module alone (tools/check_vllm_families.py).
  enum class CacheNames { kEither, kOfAttention } cache_names = CacheNames::kEither;
};

// All families this build knows.
std::span<const ModelFamily> ModelFamilies();

// Of all layers.
std::vector<LayerSpec> LayersOf(const ModelFamily& family, const DecoderConfig& config);

// Modules of the linears that stay as they are whatever is asked for.
std::set<std::string> LinearsKeptAsStored(const ModelFamily& family, const DecoderConfig& config);

// How the checkpoint stores experts, told by the tensors it has: `has` asks for one. What is
// missing is missed as the family stores it.
void SettleExperts(const ModelFamily& family, DecoderConfig& config,
                   const std::function<bool(const std::string&)>& has);

// The family of a config.json: of its one architecture, or, where it names none, of its model_type,
// as transformers' AutoModel takes it. Throws: kCorruptInput where neither is there,
// kUnsupported naming what is there and what is known.
const ModelFamily& FindModelFamily(const Json& config, std::string_view what);

// Which weights a job can start from.
enum class WeightState {
  kOriginal,      // BF16, F16, F32
  kQuantizedToo,  // also quantized linears with their scales, which are run
  kDequantized,   // also linears in schemes that the config states, which become numbers again
};

// Checks that the checkpoint holds every tensor of the model in the expected shape and a type the
// job can start from, and no other tensor that the family does not know. Returns what is there and
// left out of account, a sentence each. Throws: kCorruptInput naming tensor, expected and found.
std::vector<std::string> CheckWeights(const ModelFamily& family, const DecoderConfig& config,
                                      const CheckpointReader& checkpoint, WeightState weights);

}  // namespace narrow
