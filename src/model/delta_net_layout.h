// What config.json and checkpoints call the parts of a Gated DeltaNet, in families that have it in
// most of their layers.
#pragma once

#include <string_view>

#include "io/json.h"
#include "model/config.h"
#include "model/spec.h"

namespace narrow {

// The members of the configuration, with what is taken for those that are not there; and which
// layers recur: those that "layer_types" calls linear_attention, or, without that member, all but
// every last of "full_attention_interval". Throws: kCorruptInput, kUnsupported.
struct DeltaNetDefaults {
  int64_t key_heads = 16;
  int64_t value_heads = 32;
  int64_t key_size = 128;
  int64_t value_size = 128;
  int64_t taps = 4;
  int64_t period = 4;
};
void ReadDeltaNet(const Json& config, std::string_view what, const DeltaNetDefaults& defaults,
                  DeltaNet::Layout layout, DecoderConfig& result);

// Puts the DeltaNet of the config into the place of a layer's attention: linears, norms,
// parameters. Its rates stay as they are stored.
void PutDeltaNet(const DecoderConfig& config, LayerSpec& spec);

// Makes attention one whose output is gated by what q_proj computes beside each head of q.
void GateAttention(LayerSpec& spec);

}  // namespace narrow
