#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "report/html/chart.h"
#include "report/html/markup.h"
#include "report/html/sections.h"
#include "text/text_format.h"

namespace narrow {
namespace {

constexpr double kLargestCode = 448;            // of E4M3
constexpr double kSmallestNormalCode = 0x1p-6;  // below it, precision fades until 2^-9

std::string_view ModuleOf(std::string_view weight) {
  constexpr std::string_view kSuffix = ".weight";
  if (weight.ends_with(kSuffix)) weight.remove_suffix(kSuffix.size());
  return weight;
}
std::string_view LastName(std::string_view module) { return module.substr(module.rfind('.') + 1); }

std::string OutputErrors(const RunReport& report) {
  Chart chart;
  chart.title = "Squared output error by layer, over the sampled tokens";
  chart.scale = ChartScale::kLogarithmic;
  chart.series = {{"compensated", {}}, {"had it been rounded to nearest", {}}};
  std::vector<double> ratios;
  for (const RunReport::LayerRecord& layer : report.layers) {
    for (ChartSeries& series : chart.series) series.values.emplace_back();
    if (!layer.output_error) continue;
    chart.series[0].values.back() = layer.output_error->compensated;
    chart.series[1].values.back() = layer.output_error->nearest;
    if (layer.output_error->nearest > 0) {
      ratios.push_back(layer.output_error->compensated / layer.output_error->nearest);
    }
  }
  if (ratios.empty()) return "";
  const auto middle = ratios.begin() + std::ssize(ratios) / 2;
  std::ranges::nth_element(ratios, middle);
  return Section("Error of rounding",
                 fmt::format("In the median layer, compensated rounding leaves {:.0f} % of the "
                             "squared error that rounding to nearest has.",
                             100 * *middle),
                 RenderChart(chart));
}

std::string Saturation(const RunReport& report) {
  Chart chart;
  chart.title = "Weights beyond the range of FP8, per million";
  chart.mark = ChartMark::kBars;
  chart.series.push_back({"saturated per million", {}});
  int64_t saturated = 0, elements = 0;
  for (const RunReport::LayerRecord& layer : report.layers) {
    saturated += layer.saturated;
    elements += layer.elements;
    chart.series[0].values.emplace_back(1e6 * static_cast<double>(layer.saturated) /
                                        static_cast<double>(std::max<int64_t>(1, layer.elements)));
  }
  if (elements == 0) return "";
  return Section(
      "Saturation",
      fmt::format("{} of {} quantized weights were cut to the largest code.",
                  saturated == 0 ? "None" : FormatCount(saturated), FormatCount(elements)),
      saturated == 0 ? "" : RenderChart(chart));
}

struct RangeSeries {
  std::string title;
  std::vector<std::optional<RunReport::Range>> ranges;  // by layer
};

// One series per role, in the order of the first layer; roles with equal ranges share one.
template <typename Record>
std::vector<RangeSeries> ByRole(const std::vector<Record>& records, std::size_t layers) {
  std::vector<RangeSeries> roles;
  for (const Record& record : records) {
    const std::string title(LastName(ModuleOf(record.name)));
    auto role = std::ranges::find(roles, title, &RangeSeries::title);
    if (role == roles.end()) role = roles.insert(roles.end(), {title, {}});
    const auto layer = static_cast<std::size_t>(record.layer);
    if (layer >= layers) continue;
    role->ranges.resize(layers);
    role->ranges[layer] = record.range;
  }
  const auto same = [](const std::optional<RunReport::Range>& a,
                       const std::optional<RunReport::Range>& b) {
    return a.has_value() == b.has_value() && (!a || (a->amax == b->amax && a->scale == b->scale));
  };
  std::vector<RangeSeries> distinct;
  for (RangeSeries& role : roles) {
    auto twin = std::ranges::find_if(distinct, [&](const RangeSeries& other) {
      return std::ranges::equal(other.ranges, role.ranges, same);
    });
    if (twin == distinct.end()) {
      distinct.push_back(std::move(role));
    } else {
      twin->title += ", " + role.title;
    }
  }
  return distinct;
}

std::string RangeGrid(const std::vector<RangeSeries>& roles) {
  std::string html = "<div class=\"grid\">\n";
  for (const RangeSeries& role : roles) {
    Chart chart;
    chart.title = role.title;
    chart.scale = ChartScale::kLogarithmic;
    chart.mark = ChartMark::kDots;
    chart.size = ChartSize::kSmall;
    chart.series.push_back({"largest magnitude", {}});
    for (const std::optional<RunReport::Range>& range : role.ranges) {
      chart.series[0].values.emplace_back();
      chart.bands.emplace_back();
      if (!range) continue;
      chart.series[0].values.back() = range->amax;
      chart.bands.back() = {range->scale * kSmallestNormalCode, range->scale * kLargestCode};
    }
    html += RenderChart(chart);
  }
  return html + "</div>\n";
}

std::string Ranges(const RunReport& report) {
  if (report.weights.empty()) return "";
  const std::size_t layers = report.layers.size();
  return Section(
      "Ranges against FP8's",
      "Dots are the largest magnitude of each tensor; the bars behind them are what FP8 "
      "represents with full precision at its scale. A dot below the end of its bar leaves "
      "range unused, as it does where fused matrices share the largest one's scale.",
      Element("h3", "Weights") + RangeGrid(ByRole(report.weights, layers)) +
          Element("h3", "Inputs") + RangeGrid(ByRole(report.inputs, layers)));
}

std::string CacheScales(const RunReport& report) {
  if (report.kv_cache.empty()) return "";
  Chart chart;
  chart.title = "Scales of the KV cache";
  chart.scale = ChartScale::kLogarithmic;
  chart.series = {{"K", {}}, {"V", {}}};
  for (const RunReport::KvCacheRecord& record : report.kv_cache) {
    chart.series[0].values.emplace_back(record.key.scale);
    chart.series[1].values.emplace_back(record.value.scale);
  }
  return Section("KV cache", "K is taken after RoPE, as the cache holds it.", RenderChart(chart));
}

}  // namespace

std::string LayerSections(const RunReport& report) {
  return OutputErrors(report) + Saturation(report) + Ranges(report) + CacheScales(report);
}

std::string TensorSection(const RunReport& report) {
  if (report.weights.empty()) return "";
  std::map<std::string_view, const RunReport::Range*> inputs;
  for (const RunReport::InputRecord& input : report.inputs) inputs[input.name] = &input.range;
  std::vector<std::vector<std::string>> rows;
  for (const RunReport::WeightRecord& weight : report.weights) {
    const std::string_view module = ModuleOf(weight.name);
    const auto input = inputs.find(module);
    const RunReport::Range* range = input == inputs.end() ? nullptr : input->second;
    const auto& error = weight.output_error;
    rows.push_back({EscapeHtml(module), FormatFigure(weight.range.amax),
                    FormatFigure(weight.range.scale), FormatCount(weight.saturated),
                    range ? FormatFigure(range->amax) : "", range ? FormatFigure(range->scale) : "",
                    error ? FormatFigure(error->compensated) : "",
                    error ? FormatFigure(error->nearest) : ""});
  }
  return Section("Every linear", "",
                 fmt::format("<details><summary>{} quantized linears</summary>\n", rows.size()) +
                     HtmlTable({"Linear", "Weight amax", "Weight scale", "Saturated", "Input amax",
                                "Input scale", "Output error", "To nearest"},
                               rows, 1) +
                     "</details>\n");
}

}  // namespace narrow
