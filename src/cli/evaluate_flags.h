// The flags that an evaluation is asked for by.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/progress.h"
#include "cli/arguments.h"
#include "jobs/compare.h"
#include "jobs/quantize.h"

namespace narrow {

struct EvaluateFlags {
  std::string model_dir;
  std::string work_dir;  // empty: the directory for temporary files
  EvaluationFlags evaluation;
  AttentionFlags attention;
  MemoryFlags memory;
  ComputeFlags compute;
  std::string reference = {};  // empty: nothing is compared
  std::optional<int64_t> attribution_windows = {};
};

// Sets the number of threads, and fetches a model and a text of the hub. Throws: as LocateModel and
// FetchDataset; kInvalidArgument.
EvaluateRequest MakeEvaluateRequest(const EvaluateFlags& flags, ProgressSink& progress);
// The same for a comparison with flags.reference.
CompareRequest MakeCompareRequest(const EvaluateFlags& flags, ProgressSink& progress);

}  // namespace narrow
