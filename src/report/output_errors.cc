// What the report says of layers' output errors and of the linears that were kept because of them.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "report/report.h"
#include "text/text_format.h"

namespace narrow {
namespace {

constexpr std::size_t kWorstLayers = 3;

}  // namespace

std::string PartName(std::string_view part) {
  static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"qkv", "q/k/v"}, {"gate_up", "gate/up"}, {"kv_cache", "KV cache"}};
  for (const auto& [id, name] : kNames) {
    if (id == part) return std::string(name);
  }
  return std::string(part);
}

std::string DescribeWorstLayers(const RunReport& report) {
  std::vector<std::pair<std::size_t, const RunReport::LayerError*>> layers;
  for (std::size_t i = 0; i < report.layers.size(); ++i) {
    const std::optional<RunReport::LayerError>& error = report.layers[i].error;
    if (error && error->share > 0) layers.emplace_back(i, &*error);
  }
  std::ranges::stable_sort(
      layers, [](const auto& a, const auto& b) { return a.second->share > b.second->share; });
  if (layers.size() > kWorstLayers) layers.resize(kWorstLayers);
  std::string text;
  for (const auto& [layer, error] : layers) {
    const auto worst = std::ranges::max_element(error->parts, {}, &RunReport::PartError::share);
    if (!text.empty()) text += ", ";
    text += fmt::format("{} ({:.1f} %, {} most)", layer, 100 * error->share, PartName(worst->part));
  }
  return text;
}

std::string DescribeKept(const RunReport& report) {
  NARROW_CHECK(report.kept.has_value());
  const RunReport::Kept& kept = *report.kept;
  if (kept.groups.empty()) return "none";
  const int64_t before = kept.checkpoint_bytes - kept.extra_bytes;
  return fmt::format("{} group{} of linears, {} more (+{:.1f} %)", kept.groups.size(),
                     kept.groups.size() == 1 ? "" : "s", FormatBytes(kept.extra_bytes),
                     100 * static_cast<double>(kept.extra_bytes) / static_cast<double>(before));
}

std::string DescribeGroup(const RunReport::KeptGroup& group) {
  std::string text;
  for (const std::string& linear : group.linears) {
    text += text.empty() ? linear : ", " + linear.substr(linear.rfind('.') + 1);
  }
  return text;
}

std::string DescribeLimit(const RunReport& report) {
  if (!report.kept || !report.kept->max_kl) return "";
  if (!report.evaluation || !report.evaluation->deployed) return "";
  const double limit = *report.kept->max_kl;
  const double kl = report.evaluation->deployed->kl.mean;
  std::string text = kl <= limit ? fmt::format("KL {:.4f} is within --max_kl {:.4f}", kl, limit)
                                 : fmt::format("KL {:.4f} is ABOVE --max_kl {:.4f}", kl, limit);
  if (report.kept->kl_without && report.kept->kl_predicted) {
    text += fmt::format("; {:.4f} with all quantized, {:.4f} predicted", *report.kept->kl_without,
                        *report.kept->kl_predicted);
  }
  return text;
}

}  // namespace narrow
