// Charts of figures by layer (or by window) as SVG inside a page: one place along the x axis for
// each, a line with dots or bars, and the figures as tooltips.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace narrow {

enum class ChartScale { kLinear, kLogarithmic };  // a linear one starts at zero
enum class ChartMark { kLine, kDots, kBars };
enum class ChartSize { kWide, kSmall };

struct ChartSeries {
  std::string name;
  std::vector<std::optional<double>> values;  // by place; on a log scale only positive ones show
};

struct ChartBand {
  double low = 0;
  double high = 0;
};

struct Chart {
  std::string title;            // with the unit
  std::string place = "layer";  // what a place is: "layer", "window"
  ChartScale scale = ChartScale::kLinear;
  ChartMark mark = ChartMark::kLine;
  ChartSize size = ChartSize::kWide;
  std::vector<ChartSeries> series;              // one or two; bars show the first alone
  std::vector<std::optional<ChartBand>> bands;  // behind the marks, by place; may be empty
};

// A figure element; nothing where there is nothing to show. Names and titles are escaped.
std::string RenderChart(const Chart& chart);

// Up to four significant digits, without an exponent where that is short: "0.0123", "4.56e-07".
std::string FormatFigure(double value);

}  // namespace narrow
