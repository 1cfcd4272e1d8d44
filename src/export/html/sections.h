// The sections of report.html; each is empty where the report has nothing for it.
#pragma once

#include <string>

#include "export/report.h"

namespace narrow {

// What the evaluation found: the table, loss by window, the tokens hurt most.
std::string EvaluationSections(const RunReport& report);
// Output error, saturation, ranges against FP8's, scales of K and V; then every tensor.
std::string LayerSections(const RunReport& report);
std::string TensorSection(const RunReport& report);

}  // namespace narrow
