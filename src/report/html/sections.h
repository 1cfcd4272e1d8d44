// The sections of report.html; each is empty where the report has nothing for it.
#pragma once

#include <string>

#include "report/report.h"

namespace narrow {

// What the evaluation found: the table, loss by window, the tokens hurt most.
std::string EvaluationSections(const RunReport& report);
// Each layer's and each part's share of the output error, and the linears that were kept for it.
std::string ErrorSections(const RunReport& report);
// Error of rounding, saturation, ranges against FP8's, scales of K and V; then every tensor.
std::string LayerSections(const RunReport& report);
std::string TensorSection(const RunReport& report);

}  // namespace narrow
