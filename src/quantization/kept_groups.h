// Which fused groups of linears stay as they are, chosen by what quantizing them does to the output
// of their layers.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "model/model_source.h"
#include "quantization/layer_quantizer.h"

namespace narrow {

// What --keep_layers and --max_kl ask for; at most one of the two.
struct KeepRequest {
  int64_t groups = 0;            // this many of the worst
  std::optional<double> max_kl;  // as few as bring the deployed KL to this, nats per token

  bool any() const { return groups > 0 || max_kl.has_value(); }
};

// The linears of one layer that read the same input; serving engines take or leave them together.
struct LayerGroup {
  int64_t layer = 0;
  LinearGroup group = LinearGroup::kQueryKeyValue;
  std::vector<std::string> modules;
  int64_t extra_bytes = 0;  // that the checkpoint grows by when the group stays as it is
  double error = 0.0;       // as LayerErrors
  double share = 0.0;       // of the errors of all parts of all layers
};

// The groups of the model that are quantized, in order, without their errors. Sizes come from the
// checkpoint, or, when it is null, from the config.
std::vector<LayerGroup> QuantizedGroups(const ModelSource& model,
                                        const std::set<std::string>& excluded);

// The most that a checkpoint can grow by when `count` of the groups stay.
int64_t LargestExtraBytes(std::span<const LayerGroup> groups, int64_t count);

// Throws: kInvalidArgument where the request asks for more groups than there are.
void CheckKeepRequest(const KeepRequest& request, std::span<const LayerGroup> groups);

// The choice, and what it rests on.
struct KeptGroups {
  std::vector<LayerGroup> groups;  // the worst first
  // Where it was made for the sake of a KL: that with everything quantized, and that expected now.
  std::optional<double> kl_without, kl_predicted;
  double seconds = 0.0;  // of the pass that measured

  int64_t extra_bytes() const;
  std::set<std::string> modules() const;
};

// The `count` groups with the largest errors; of equal ones the earlier. `layers` are the facts of
// a pass that probed all of them.
KeptGroups KeepWorst(std::vector<LayerGroup> groups, std::span<const LayerFacts> layers,
                     int64_t count);

// The deployed network with everything quantized.
struct MeasuredKl {
  double mean = 0.0;
  // The KV cache's share of it, which no group can take away; nothing: as of the errors.
  std::optional<double> cache_share;
};

// As few of the worst groups as bring the KL to `max_kl`, taking it that KL falls in proportion to
// the errors that go. Throws: kInvalidArgument where that is not enough even without any of them,
// which says what would remain.
KeptGroups KeepForKl(std::vector<LayerGroup> groups, std::span<const LayerFacts> layers,
                     const MeasuredKl& measured, double max_kl);

}  // namespace narrow
