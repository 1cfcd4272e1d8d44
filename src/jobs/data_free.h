// Quantization from the weights alone: no forward pass, so any architecture, by names and shapes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jobs/quantize.h"
#include "jobs/recipe.h"

namespace narrow {

struct DataFreeRequest {
  // Directories, weights that are elsewhere, revision, shard size, excluded patterns, resuming,
  // command line and version; of the rest nothing counts.
  QuantizeRequest job;
  Recipe recipe;
  std::string format;                         // empty: what serves the schemes best
  std::vector<std::string> include_patterns;  // what is quantized although it stays by default
  bool exact_quotient = false;
};

struct DataFreeResult {
  std::string schemes;  // "FP8_DYNAMIC", or several with ", " between
  std::string format;
  int64_t quantized = 0;  // matrices
  int64_t kept = 0;       // matrices
  int64_t source_bytes = 0;
  int64_t output_bytes = 0;
  int64_t memory_bytes = 0;  // planned, beside the program and the headers
  double seconds = 0;
  std::vector<std::string> choices;   // what is quantized and what stays: sentences
  std::vector<std::string> warnings;  // sentences
};

// "21 of 23 matrices in FP8_DYNAMIC (compressed-tensors), 1.2 MB of 2.4 MB\n".
std::string Summary(const DataFreeResult& result);

// What can be refused of a job from a directory without weights. Throws: as RunDataFree.
void CheckBeforeWeights(const DataFreeRequest& request);

// What the job would do, before any work. Throws: as RunDataFree, but not for the output.
DataFreeResult PlanDataFree(const DataFreeRequest& request);

// Leaves the complete output directory (weights, config, side files, report) or nothing. What stays
// and what is quantized is told to `progress` before work. Throws: Error of any kind; everything
// that can be refused is refused before work, but for NaN and infinity in what is quantized.
DataFreeResult RunDataFree(const DataFreeRequest& request, ProgressSink& progress);

}  // namespace narrow
