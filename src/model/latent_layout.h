// What config.json and checkpoints call the parts of latent attention.
#pragma once

#include <string_view>

#include "io/json.h"
#include "model/config.h"
#include "model/spec.h"

namespace narrow {

// Sizes of the latents and of heads: result.latent, result.heads. Throws: kCorruptInput;
// kUnsupported where q has no latent.
void ReadLatents(const Json& config, std::string_view what, DecoderConfig& result);

// The indexer of result.latent. Throws: kCorruptInput; kUnsupported where layers share what another
// selects.
void ReadIndexer(const Json& config, std::string_view what, RotaryPairs pairs,
                 DecoderConfig& result);

// By what the length of a rotation with yarn makes scores larger. Source: transformers 5,
// models/deepseek_v3/modeling_deepseek_v3.py (yarn_apply_mscale).
float YarnScoreFactor(const Json& config, std::string_view what);

// Puts latent attention into the place of a layer's attention: linears, norms, heads. An
// indexer stays as it is stored.
void PutLatents(const DecoderConfig& config, LayerSpec& spec);

}  // namespace narrow
