// Checks that need the weights themselves.
#pragma once

#include <filesystem>

#include "base/progress.h"
#include "inspection/findings.h"
#include "inspection/inventory.h"

namespace narrow {

// Tensors that hold NaN or infinity, FP8 codes among them. Reads every floating tensor but the
// scales, whose values are known, a few megabytes at a time. Throws: kIo, and as a stop request
// says.
void CheckNumbers(const std::filesystem::path& directory, const Inventory& inventory,
                  ProgressSink& progress, Findings& findings);

}  // namespace narrow
