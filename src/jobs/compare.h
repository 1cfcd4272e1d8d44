// A neutral judge: any readable checkpoint against the model it was made of.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "jobs/quantize.h"
#include "model/model_source.h"
#include "report/report.h"

namespace narrow {

// Of EvaluateRequest, the model is the one that is judged.
struct CompareRequest : EvaluateRequest {
  std::filesystem::path reference_directory;
  // What the two are called; empty: as their directories.
  std::string reference_name{};
  std::string model_name{};
  int64_t attribution_windows = kDefaultAttributionWindows;
  std::vector<std::string> command_line{};  // for the report
  std::string version{};
};

// Takes both through the layers side by side, the reference as its numbers are, the other as
// serving engines run it; the figures are those of a quantization, and the same for a checkpoint
// that this program made of the reference. Of several ranks all have the report. Throws: Error of
// any kind; as CheckComparable before any work.
RunReport RunCompare(const CompareRequest& request, ProgressSink& progress);

// Throws: kUnsupported naming the first difference in architecture, vocabulary, layers or the
// shapes of their linears.
void CheckComparable(const ModelSource& reference, const ModelSource& judged);

}  // namespace narrow
