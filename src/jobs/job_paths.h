// What the jobs read and write, by the names the user knows it by.
#pragma once

#include <vector>

#include "io/paths.h"
#include "jobs/compare.h"
#include "jobs/quantize.h"

namespace narrow {

// Model directory and texts. Throws: kNotFound when the directory of named texts is none.
std::vector<NamedPath> ReadPaths(const QuantizeRequest& request);
std::vector<NamedPath> ReadPaths(const EvaluateRequest& request);
std::vector<NamedPath> ReadPaths(const CompareRequest& request);

// Throws kInvalidArgument when output, work directory and what is read do not lie apart.
void CheckPaths(const QuantizeRequest& request);
void CheckPaths(const EvaluateRequest& request);
void CheckPaths(const CompareRequest& request);

}  // namespace narrow
