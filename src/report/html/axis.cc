#include "report/html/axis.h"

#include <algorithm>
#include <cmath>

namespace narrow {
namespace {

// The smallest of 1, 2, 5 times a power of ten that is not below `step`.
double RoundStep(double step) {
  const double power = std::pow(10.0, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= step * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

Axis LinearAxis(double low, double high) {
  constexpr double kIntervals = 5;
  Axis axis;
  const double step = RoundStep((high - low) / kIntervals);
  const double first = std::floor(low / step), last = std::ceil(high / step);
  axis.low = first * step;
  axis.high = last * step;
  for (double i = first; i <= last; ++i) axis.ticks.push_back(i * step);
  return axis;
}

Axis LogarithmicAxis(double low, double high) {
  constexpr double kMostDecades = 5;
  Axis axis;
  axis.scale = ChartScale::kLogarithmic;
  axis.low = low / 1.2;
  axis.high = high * 1.2;
  // Few decades get ticks inside them.
  const bool fine = std::log10(axis.high / axis.low) < 2;
  if (fine) {
    axis.low = 1 / RoundStep(1 / axis.low);
    axis.high = RoundStep(axis.high);
  }
  const double first = std::floor(std::log10(axis.low)), last = std::ceil(std::log10(axis.high));
  const double step = std::ceil((last - first) / kMostDecades);
  for (double decade = first; decade <= last; decade += step) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = factor * std::pow(10.0, decade);
      if (tick >= axis.low * (1 - 1e-9) && tick <= axis.high * (1 + 1e-9) &&
          (fine || factor == 1.0)) {
        axis.ticks.push_back(tick);
      }
    }
  }
  return axis;
}

}  // namespace

double Axis::Position(double value) const {
  if (scale == ChartScale::kLinear) return (value - low) / (high - low);
  return std::log(value / low) / std::log(high / low);
}

std::optional<Axis> AxisFor(std::span<const double> values, ChartScale scale) {
  if (values.empty()) return std::nullopt;
  const auto [smallest, largest] = std::ranges::minmax(values);
  if (scale == ChartScale::kLogarithmic) return LogarithmicAxis(smallest, largest);
  const double low = std::min(0.0, smallest);
  const double high = std::max(0.0, largest);
  return LinearAxis(low, high > low ? high : low + 1);
}

}  // namespace narrow
