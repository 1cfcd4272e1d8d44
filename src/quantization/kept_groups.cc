#include "quantization/kept_groups.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/error.h"

namespace narrow {
namespace {

constexpr int64_t kScaleBytes = 4;  // of a weight, and of its input

int64_t ExtraBytes(const ModelSource& model, const LinearSpec& linear) {
  const int64_t elements = linear.rows * linear.columns;
  const auto* weight =
      model.checkpoint != nullptr ? model.checkpoint->Find(linear.weight()) : nullptr;
  const bool plain = weight != nullptr && ElementBytes(weight->entry.dtype) > 1;
  const int64_t stored =
      plain ? weight->entry.bytes() : elements * ElementBytes(model.config.dtype);
  return stored - (elements + 2 * kScaleBytes);
}

double SumOfErrors(std::span<const LayerFacts> layers) {
  double sum = 0.0;
  for (const LayerFacts& layer : layers) sum += layer.errors->Sum();
  return sum;
}

// The groups with their errors, the worst first.
std::vector<LayerGroup> Ranked(std::vector<LayerGroup> groups, std::span<const LayerFacts> layers) {
  const double sum = SumOfErrors(layers);
  for (LayerGroup& group : groups) {
    group.error = layers[static_cast<std::size_t>(group.layer)].errors->Group(group.group);
    group.share = sum > 0.0 ? group.error / sum : 0.0;
  }
  std::ranges::stable_sort(groups, std::ranges::greater(), &LayerGroup::error);
  return groups;
}

}  // namespace

std::vector<LayerGroup> QuantizedGroups(const ModelSource& model,
                                        const std::set<std::string>& excluded) {
  std::vector<LayerGroup> groups;
  for (int64_t i = 0; i < model.config.layers; ++i) {
    const LayerSpec layer = model.family->layer(model.config, i);
    for (const GroupSpec& group : GroupsOf(layer)) {
      if (excluded.contains(group.linears.front().module)) continue;
      LayerGroup& quantized = groups.emplace_back(LayerGroup{i, group.id, {}, 0, 0.0, 0.0});
      for (const LinearSpec& linear : group.linears) {
        quantized.modules.push_back(linear.module);
        quantized.extra_bytes += ExtraBytes(model, linear);
      }
    }
  }
  return groups;
}

int64_t LargestExtraBytes(std::span<const LayerGroup> groups, int64_t count) {
  std::vector<int64_t> bytes;
  for (const LayerGroup& group : groups) bytes.push_back(group.extra_bytes);
  std::ranges::sort(bytes, std::ranges::greater());
  bytes.resize(static_cast<std::size_t>(std::min(count, std::ssize(bytes))));
  return std::accumulate(bytes.begin(), bytes.end(), int64_t{0});
}

void CheckKeepRequest(const KeepRequest& request, std::span<const LayerGroup> groups) {
  if (request.groups <= std::ssize(groups)) return;
  Fail(ErrorCode::kInvalidArgument,
       "--keep_layers {}: only {} groups of linears (q/k/v, o, gate/up, down of each layer) are "
       "quantized at all; ask for fewer",
       request.groups, groups.size());
}

int64_t KeptGroups::extra_bytes() const {
  return std::accumulate(
      groups.begin(), groups.end(), int64_t{0},
      [](int64_t sum, const LayerGroup& group) { return sum + group.extra_bytes; });
}

std::set<std::string> KeptGroups::modules() const {
  std::set<std::string> modules;
  for (const LayerGroup& group : groups) modules.insert(group.modules.begin(), group.modules.end());
  return modules;
}

KeptGroups KeepWorst(std::vector<LayerGroup> groups, std::span<const LayerFacts> layers,
                     int64_t count) {
  NARROW_CHECK(count <= std::ssize(groups));
  KeptGroups kept;
  kept.groups = Ranked(std::move(groups), layers);
  kept.groups.resize(static_cast<std::size_t>(count));
  return kept;
}

KeptGroups KeepForKl(std::vector<LayerGroup> groups, std::span<const LayerFacts> layers,
                     const MeasuredKl& measured, double max_kl) {
  double cache_errors = 0.0;
  for (const LayerFacts& layer : layers) cache_errors += layer.errors->cache;
  const double all_errors = SumOfErrors(layers);
  const double cache_share = std::clamp(
      measured.cache_share.value_or(all_errors > 0.0 ? cache_errors / all_errors : 0.0), 0.0, 1.0);
  const double of_groups = all_errors - cache_errors;
  KeptGroups kept;
  kept.kl_without = measured.mean;
  double left = of_groups;
  const auto predicted = [&] {
    const double share = of_groups > 0.0 ? std::max(0.0, left / of_groups) : 0.0;
    return measured.mean * (cache_share + (1.0 - cache_share) * share);
  };
  kept.kl_predicted = measured.mean;
  for (LayerGroup& group : Ranked(std::move(groups), layers)) {
    if (*kept.kl_predicted <= max_kl) break;
    left -= group.error;
    kept.kl_predicted = predicted();
    kept.groups.push_back(std::move(group));
  }
  if (*kept.kl_predicted > max_kl) {
    Fail(ErrorCode::kInvalidArgument,
         "--max_kl {}: the KL is {:.4f} with everything quantized, and {:.4f} would remain, of the "
         "KV cache, with no linear quantized at all; raise --max_kl, or leave out --kv_cache_dtype",
         max_kl, measured.mean, *kept.kl_predicted);
  }
  return kept;
}

}  // namespace narrow
