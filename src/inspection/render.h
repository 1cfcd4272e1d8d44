// An inspection as text for people and as JSON for programs.
#pragma once

#include <string>

#include "inspection/inspect.h"

namespace narrow {

// An aligned table of the tensors, totals per dtype, and the problems. Names from the checkpoint
// are made printable.
std::string RenderInspection(const InspectionReport& report);

// {"directory", "model_type", "quant_method", "files", "bytes", "totals": [{"dtype", "tensors",
// "elements", "bytes"}], "tensors": [{"name", "dtype", "shape", "bytes", "file", "scale"?}],
// "problems": [{"severity", "text"}]}. A scale that is not finite is null.
std::string InspectionJson(const InspectionReport& report);

}  // namespace narrow
