// The y axis of a chart: its ends and its ticks.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "report/html/chart.h"

namespace narrow {

struct Axis {
  ChartScale scale = ChartScale::kLinear;
  double low = 0;
  double high = 1;
  std::vector<double> ticks;  // between low and high

  // 0 at the low end, 1 at the high one.
  double Position(double value) const;
};

// An axis that shows all values, with two to seven ticks; nothing without values. On a linear scale
// zero is in it. REQUIRES: finite values, positive ones on a log scale.
std::optional<Axis> AxisFor(std::span<const double> values, ChartScale scale);

}  // namespace narrow
