#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "report/html/chart.h"
#include "report/html/markup.h"
#include "report/html/sections.h"
#include "text/text_format.h"

namespace narrow {
namespace {

constexpr std::size_t kWorstParts = 10;

using Errors = std::vector<std::optional<LayerShares>>;  // by layer

// A part of a layer.
struct Part {
  std::size_t layer = 0;
  PartShare error;
};

std::vector<Part> PartsOf(const Errors& errors) {
  std::vector<Part> parts;
  for (std::size_t i = 0; i < errors.size(); ++i) {
    if (!errors[i]) continue;
    for (const PartShare& part : errors[i]->parts) parts.push_back({i, part});
  }
  return parts;
}

std::string LayerChart(const Errors& errors) {
  Chart chart;
  chart.title = "Share of the output error by layer, %";
  chart.mark = ChartMark::kBars;
  chart.series.push_back({"%", {}});
  for (const std::optional<LayerShares>& layer : errors) {
    chart.series[0].values.emplace_back();
    if (layer) chart.series[0].values.back() = 100 * layer->share;
  }
  return RenderChart(chart);
}

// A small chart for each part, on axes of their own.
std::string PartCharts(const std::vector<Part>& parts, std::size_t layers) {
  std::vector<std::pair<std::string_view, Chart>> charts;
  for (const Part& part : parts) {
    auto chart =
        std::ranges::find(charts, part.error.id, [](const auto& named) { return named.first; });
    if (chart == charts.end()) {
      chart = charts.insert(charts.end(), {part.error.id, {}});
      chart->second.title = PartName(part.error.id) + ", %";
      chart->second.mark = ChartMark::kBars;
      chart->second.size = ChartSize::kSmall;
      chart->second.series.push_back({"%", std::vector<std::optional<double>>(layers)});
    }
    chart->second.series[0].values[part.layer] = 100 * part.error.share;
  }
  std::string html = "<div class=\"grid\">\n";
  for (const auto& [name, chart] : charts) html += RenderChart(chart);
  return html + "</div>\n";
}

std::string WorstParts(std::vector<Part> parts) {
  std::ranges::stable_sort(
      parts, [](const Part& a, const Part& b) { return a.error.share > b.error.share; });
  if (parts.size() > kWorstParts) parts.resize(kWorstParts);
  std::vector<std::vector<std::string>> rows;
  for (const Part& part : parts) {
    rows.push_back({fmt::format("layer {}, {}", part.layer, PartName(part.error.id)),
                    fmt::format("{:.2f} %", 100 * part.error.share),
                    FormatFigure(part.error.error)});
  }
  return Element("h3", "The largest") +
         HtmlTable({"Part", "Share", "Squared change of the output over its size"}, rows, 1);
}

std::string ErrorShares(const RunReport& report) {
  const Errors errors = OutputErrors(report);
  const std::vector<Part> parts = PartsOf(errors);
  if (parts.empty()) return "";
  return Section(
      "Share of the output error",
      "A few hundred tokens went through each layer as one part after the other became quantized: "
      "how much the part changes the layer's output, squared, relative to the output of each "
      "token. Shares are of the sum over all parts and layers.",
      LayerChart(errors) + PartCharts(parts, errors.size()) + WorstParts(parts));
}

std::string KeptLinears(const RunReport& report) {
  if (!report.kept) return "";
  std::vector<std::vector<std::string>> rows;
  for (const LayerGroup& group : report.kept->choice.groups) {
    rows.push_back({EscapeHtml(DescribeGroup(group)), fmt::format("{:.2f} %", 100 * group.share),
                    FormatBytes(group.extra_bytes)});
  }
  return Section(
      "Kept as they are",
      fmt::format("Because of what quantizing them does to the output: {}.", DescribeKept(report)),
      rows.empty() ? ""
                   : HtmlTable({"Linears", "Share of the output error", "More bytes"}, rows, 1));
}

}  // namespace

std::string ErrorSections(const RunReport& report) {
  return ErrorShares(report) + KeptLinears(report);
}

}  // namespace narrow
