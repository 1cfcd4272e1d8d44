#include "model/experts_reading.h"

#include <algorithm>

#include "base/error.h"
#include "model/decoder_reading.h"

namespace narrow {
namespace {

constexpr int64_t kMaxExperts = 4096;  // far above any published model
constexpr int64_t kMaxSharedExperts = 1024;

}  // namespace

void ReadExperts(const Json& config, std::string_view what, const ExpertMembers& members,
                 DecoderConfig& result) {
  const auto size = [&](std::string_view key, int64_t absent) {
    return absent != 0 && !config.contains(key) ? absent
                                                : ReadDimension(config, key, what, kMaxDimension);
  };
  ExpertsConfig& experts = result.experts;
  const bool other = !members.other_count.empty() && !config.contains(members.count) &&
                     config.contains(members.other_count);
  const std::string_view key = other ? members.other_count : members.count;
  experts.count = config.contains(key) || members.absent_count == 0
                      ? ReadDimension(config, key, what, kMaxExperts)
                      : members.absent_count;
  experts.per_token = size(members.per_token, members.absent_per_token);
  experts.width = size(members.width, members.absent_width);
  if (!members.shared_width.empty()) {
    experts.shared_width = ReadDimension(config, members.shared_width, what, kMaxDimension);
  }
  if (experts.per_token > experts.count) {
    Fail(ErrorCode::kCorruptInput, "{}: a token goes through {} of {} experts", what,
         experts.per_token, experts.count);
  }
  experts.layers.assign(static_cast<std::size_t>(result.layers), true);
}

void ReadSharedExperts(const Json& config, std::string_view what, int64_t absent,
                       DecoderConfig& result) {
  const int64_t shared = OptionalInt(config, "n_shared_experts", what).value_or(absent);
  if (shared < 0 || shared > kMaxSharedExperts) {
    Fail(ErrorCode::kCorruptInput, "{}: \"n_shared_experts\" is {}, expected 0 to {}", what, shared,
         kMaxSharedExperts);
  }
  result.experts.shared_width = shared * result.experts.width;
}

void ReadGroupedRouting(const Json& config, std::string_view what, double absent_scale,
                        DecoderConfig& result) {
  Routing& routing = result.experts.routing;
  routing.scores = Routing::Scores::kSigmoid;
  routing.groups = OptionalInt(config, "n_group", what).value_or(1);
  routing.chosen_groups = OptionalInt(config, "topk_group", what).value_or(1);
  routing.renormalized = OptionalBool(config, "norm_topk_prob", what).value_or(true);
  routing.sum_offset = 1e-20f;
  routing.scale = ReadFactor(config, "routed_scaling_factor", what, absent_scale);
  const ExpertsConfig& experts = result.experts;
  const bool even = routing.groups > 0 && experts.count % routing.groups == 0;
  if (!even || routing.chosen_groups < 1 || routing.chosen_groups > routing.groups ||
      routing.chosen_groups * (experts.count / routing.groups) < experts.per_token) {
    Fail(ErrorCode::kCorruptInput,
         "{}: \"topk_group\" is {} and \"n_group\" {}: a token cannot go through {} of {} experts "
         "in "
         "so many groups",
         what, routing.chosen_groups, routing.groups, experts.per_token, experts.count);
  }
}

void ChooseExpertLayers(const std::function<bool(int64_t layer)>& has, DecoderConfig& result) {
  for (int64_t layer = 0; layer < result.layers; ++layer) {
    result.experts.layers[static_cast<std::size_t>(layer)] = has(layer);
  }
}

void ReadSparseLayers(const Json& config, std::string_view what, DecoderConfig& result) {
  const int64_t step = OptionalInt(config, "decoder_sparse_step", what).value_or(1);
  if (step < 1) {
    Fail(ErrorCode::kCorruptInput, "{}: \"decoder_sparse_step\" is {}, expected 1 or more", what,
         step);
  }
  const Json* dense = OptionalArray(config, "mlp_only_layers", what);
  const auto has = [&](int64_t layer) {
    const bool named = dense != nullptr && std::ranges::find(*dense, Json(layer)) != dense->end();
    return !named && (layer + 1) % step == 0;
  };
  ChooseExpertLayers(has, result);
}

}  // namespace narrow
