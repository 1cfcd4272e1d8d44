#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/html/chart.h"
#include "report/html/markup.h"
#include "report/html/sections.h"
#include "text/text_format.h"

namespace narrow {
namespace {

constexpr double kLargestCode = 448;            // of E4M3
constexpr double kSmallestNormalCode = 0x1p-6;  // below it, precision fades until 2^-9

std::string_view LastName(std::string_view module) { return module.substr(module.rfind('.') + 1); }

bool HasLinears(const RunReport& report) {
  return std::ranges::any_of(report.layers,
                             [](const auto& layer) { return !layer.facts.linears.empty(); });
}

std::string RoundingErrors(const RunReport& report) {
  Chart chart;
  chart.title = "Squared output error by layer, over the sampled tokens";
  chart.scale = ChartScale::kLogarithmic;
  chart.series = {{"compensated", {}}, {"had it been rounded to nearest", {}}};
  std::vector<double> ratios;
  for (const RunReport::LayerRecord& layer : report.layers) {
    for (ChartSeries& series : chart.series) series.values.emplace_back();
    const std::optional<RoundingError> error = RoundingErrorOf(layer.facts);
    if (!error) continue;
    chart.series[0].values.back() = error->compensated;
    chart.series[1].values.back() = error->nearest;
    if (error->nearest > 0) ratios.push_back(error->compensated / error->nearest);
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
    int64_t in_layer = 0, of_layer = 0;
    for (const LinearFacts& linear : layer.facts.linears) {
      in_layer += linear.saturated;
      of_layer += linear.elements;
    }
    chart.series[0].values.emplace_back(1e6 * static_cast<double>(in_layer) /
                                        static_cast<double>(std::max<int64_t>(1, of_layer)));
    saturated += in_layer;
    elements += of_layer;
  }
  if (elements == 0) return "";
  return Section(
      "Saturation",
      fmt::format("{} of {} quantized weights were cut to the largest code.",
                  saturated == 0 ? "None" : FormatCount(saturated), FormatCount(elements)),
      saturated == 0 ? "" : RenderChart(chart));
}

struct Range {
  float amax = 0;
  float scale = 0;
  friend bool operator==(const Range&, const Range&) = default;
};

struct RangeSeries {
  std::string title;
  std::vector<std::optional<Range>> ranges;  // by layer
};

// One series per role, in the order of the first layer; roles with equal ranges share one.
std::vector<RangeSeries> ByRole(const RunReport& report, float LinearFacts::*amax,
                                float LinearFacts::*scale) {
  std::vector<RangeSeries> roles;
  for (std::size_t i = 0; i < report.layers.size(); ++i) {
    for (const LinearFacts& linear : report.layers[i].facts.linears) {
      const std::string title(LastName(linear.module));
      auto role = std::ranges::find(roles, title, &RangeSeries::title);
      if (role == roles.end()) role = roles.insert(roles.end(), {title, {}});
      role->ranges.resize(report.layers.size());
      role->ranges[i] = Range{linear.*amax, linear.*scale};
    }
  }
  std::vector<RangeSeries> distinct;
  for (RangeSeries& role : roles) {
    auto twin = std::ranges::find(distinct, role.ranges, &RangeSeries::ranges);
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
    for (const std::optional<Range>& range : role.ranges) {
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
  if (!HasLinears(report)) return "";
  return Section(
      "Ranges against FP8's",
      "Dots are the largest magnitude of each tensor; the bars behind them are what FP8 "
      "represents with full precision at its scale. A dot below the end of its bar leaves "
      "range unused, as it does where fused matrices share the largest one's scale.",
      Element("h3", "Weights") +
          RangeGrid(ByRole(report, &LinearFacts::weight_amax, &LinearFacts::weight_scale)) +
          Element("h3", "Inputs") +
          RangeGrid(ByRole(report, &LinearFacts::input_amax, &LinearFacts::input_scale)));
}

std::string CacheScales(const RunReport& report) {
  Chart chart;
  chart.title = "Scales of the KV cache";
  chart.scale = ChartScale::kLogarithmic;
  chart.series = {{"K", {}}, {"V", {}}};
  for (const RunReport::LayerRecord& layer : report.layers) {
    if (!layer.facts.cache) continue;
    chart.series[0].values.emplace_back(layer.facts.cache->key_scale);
    chart.series[1].values.emplace_back(layer.facts.cache->value_scale);
  }
  if (chart.series[0].values.empty()) return "";
  return Section("KV cache", "K is taken after RoPE, as the cache holds it.", RenderChart(chart));
}

}  // namespace

std::string LayerSections(const RunReport& report) {
  return RoundingErrors(report) + Saturation(report) + Ranges(report) + CacheScales(report);
}

std::string TensorSection(const RunReport& report) {
  if (!HasLinears(report)) return "";
  std::vector<std::vector<std::string>> rows;
  for (const RunReport::LayerRecord& layer : report.layers) {
    for (const LinearFacts& linear : layer.facts.linears) {
      const std::optional<RoundingError> error = RoundingErrorOf(linear);
      rows.push_back({EscapeHtml(linear.module), FormatFigure(linear.weight_amax),
                      FormatFigure(linear.weight_scale), FormatCount(linear.saturated),
                      FormatFigure(linear.input_amax), FormatFigure(linear.input_scale),
                      error ? FormatFigure(error->compensated) : "",
                      error ? FormatFigure(error->nearest) : ""});
    }
  }
  return Section("Every linear", "",
                 fmt::format("<details><summary>{} quantized linears</summary>\n", rows.size()) +
                     HtmlTable({"Linear", "Weight amax", "Weight scale", "Saturated", "Input amax",
                                "Input scale", "Output error", "To nearest"},
                               rows, 1) +
                     "</details>\n");
}

}  // namespace narrow
