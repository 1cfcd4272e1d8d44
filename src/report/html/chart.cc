#include "report/html/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/html/axis.h"
#include "report/html/markup.h"

namespace narrow {
namespace {

struct Geometry {
  double width, height;
  double left = 62, right = 10, top = 10, bottom = 36;
};

// "1e6" where FormatFigure says "1e+06".
std::string TickLabel(double tick) {
  std::string label = FormatFigure(tick);
  for (const char* filler : {"+", "e0"}) {
    const std::size_t at = label.find(filler);
    if (at != std::string::npos) label.erase(at + (filler[0] == 'e'), 1);
  }
  const std::size_t at = label.find("e-0");
  if (at != std::string::npos) label.erase(at + 2, 1);
  return label;
}

class Drawing {
 public:
  explicit Drawing(const Chart& chart)
      : chart_(chart),
        geometry_(chart.size == ChartSize::kWide ? Geometry{920, 250} : Geometry{320, 170}),
        axis_(AxisFor(Shown(), chart.scale)) {
    for (const ChartSeries& series : chart.series)
      places_ = std::max(places_, series.values.size());
    places_ = std::max(places_, chart.bands.size());
  }

  bool empty() const { return places_ == 0 || !axis_; }

  std::string Svg() const {
    std::string svg =
        fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">\n",
                    geometry_.width, geometry_.height, EscapeHtml(chart_.title));
    svg += Grid() + Bands();
    if (chart_.mark == ChartMark::kBars) {
      svg += Bars();
    } else {
      for (std::size_t s = chart_.series.size(); s-- > 0;) svg += Marks(s);
    }
    return svg + Tooltips() + "</svg>\n";
  }

 private:
  bool Visible(double value) const {
    return std::isfinite(value) && (chart_.scale == ChartScale::kLinear || value > 0);
  }

  std::vector<double> Shown() const {
    std::vector<double> shown;
    const auto add = [&](double value) {
      if (Visible(value)) shown.push_back(value);
    };
    for (const ChartSeries& series : chart_.series) {
      for (const std::optional<double>& value : series.values) {
        if (value) add(*value);
      }
    }
    for (const std::optional<ChartBand>& band : chart_.bands) {
      if (!band) continue;
      add(band->low);
      add(band->high);
    }
    return shown;
  }

  double Step() const {
    return (geometry_.width - geometry_.left - geometry_.right) / static_cast<double>(places_);
  }
  double X(std::size_t place) const {
    return geometry_.left + (static_cast<double>(place) + 0.5) * Step();
  }
  double Y(double value) const {
    const double span = geometry_.height - geometry_.top - geometry_.bottom;
    return geometry_.top + span * (1 - axis_->Position(value));
  }
  double Floor() const { return geometry_.height - geometry_.bottom; }

  std::string Grid() const {
    std::string svg;
    for (const double tick : axis_->ticks) {
      svg += fmt::format(
          "<line class=\"{}\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
          "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
          tick == 0 ? "axis" : "rule", geometry_.left, geometry_.width - geometry_.right, Y(tick),
          Y(tick), geometry_.left - 6, Y(tick) + 4, TickLabel(tick));
    }
    const std::size_t most = chart_.size == ChartSize::kWide ? 16 : 6;
    std::size_t step = 1;
    for (std::size_t next = 0; (places_ - 1) / step >= most; ++next)
      step = next % 2 ? step * 2 : step * 5;
    for (std::size_t place = 0; place < places_; place += step) {
      svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                         X(place), Floor() + 16, place);
    }
    return svg + fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
                             geometry_.width - geometry_.right, geometry_.height - 4,
                             EscapeHtml(chart_.place));
  }

  std::string Rectangle(const char* kind, std::size_t place, double share, double from,
                        double to) const {
    const double width = std::max(1.0, Step() * share);
    return fmt::format(
        "<rect class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>\n", kind,
        X(place) - width / 2, std::min(from, to), width, std::fabs(from - to));
  }

  std::string Bands() const {
    std::string svg;
    for (std::size_t place = 0; place < chart_.bands.size(); ++place) {
      const std::optional<ChartBand>& band = chart_.bands[place];
      if (!band || !Visible(band->low) || !Visible(band->high)) continue;
      svg += Rectangle("band", place, 0.7, Y(band->low), Y(band->high));
    }
    return svg;
  }

  std::string Bars() const {
    const double base = chart_.scale == ChartScale::kLinear ? Y(0) : Floor();
    std::string svg;
    const auto& values = chart_.series.front().values;
    for (std::size_t place = 0; place < values.size(); ++place) {
      if (!values[place] || !Visible(*values[place])) continue;
      svg += Rectangle("d0", place, 0.7, base, Y(*values[place]));
    }
    return svg;
  }

  std::string Marks(std::size_t number) const {
    const auto& values = chart_.series[number].values;
    const double radius = std::clamp(Step() / 4, 1.5, 3.5);
    std::string line, dots;
    bool pen_down = false;
    for (std::size_t place = 0; place < values.size(); ++place) {
      const bool shown = values[place] && Visible(*values[place]);
      if (shown) {
        const double y = Y(*values[place]);
        line += fmt::format("{}{:.1f} {:.1f} ", pen_down ? 'L' : 'M', X(place), y);
        dots += fmt::format("<circle class=\"d{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"/>\n",
                            number, X(place), y, radius);
      }
      pen_down = shown;
    }
    if (chart_.mark == ChartMark::kDots || line.empty()) return dots;
    return fmt::format("<path class=\"s{}\" d=\"{}\"/>\n", number, line) + dots;
  }

  std::string Tooltips() const {
    std::string svg;
    for (std::size_t place = 0; place < places_; ++place) {
      std::string text = fmt::format("{} {}", chart_.place, place);
      for (const ChartSeries& series : chart_.series) {
        if (place >= series.values.size() || !series.values[place]) continue;
        text += fmt::format(" · {}: {}", series.name, FormatFigure(*series.values[place]));
      }
      svg += fmt::format(
          "<rect class=\"hit\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\">"
          "<title>{}</title></rect>\n",
          X(place) - Step() / 2, geometry_.top, Step(), Floor() - geometry_.top, EscapeHtml(text));
    }
    return svg;
  }

  const Chart& chart_;
  Geometry geometry_;
  std::optional<Axis> axis_;
  std::size_t places_ = 0;
};

std::string Legend(const Chart& chart) {
  if (chart.series.size() < 2 || chart.mark == ChartMark::kBars) return "";
  std::string html;
  for (std::size_t s = 0; s < chart.series.size(); ++s) {
    html += fmt::format(
        " <span class=\"key\"><svg viewBox=\"0 0 26 10\" style=\"width:26px;min-width:0\">"
        "<path class=\"s{0}\" d=\"M1 5H25\"/><circle class=\"d{0}\" cx=\"13\" cy=\"5\" r=\"3\"/>"
        "</svg>{1}</span>",
        s, EscapeHtml(chart.series[s].name));
  }
  return html;
}

}  // namespace

std::string RenderChart(const Chart& chart) {
  const Drawing drawing(chart);
  if (drawing.empty()) return "";
  return fmt::format(
      "<figure class=\"{}\"><figcaption>{}{}</figcaption>\n<div "
      "class=\"scroll\">{}</div></figure>\n",
      chart.size == ChartSize::kWide ? "wide" : "small", EscapeHtml(chart.title), Legend(chart),
      drawing.Svg());
}

std::string FormatFigure(double value) { return fmt::format("{:.4g}", value); }

}  // namespace narrow
