// Scales of an FP8 KV cache for a checkpoint whose weights stay as they are.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "evaluation/divergence.h"
#include "io/file_copy.h"
#include "jobs/quantize.h"
#include "quantization/cache_choice.h"

namespace narrow {

struct CalibrateKvRequest {
  std::filesystem::path model_directory;
  std::filesystem::path output_directory;
  StagedDirectory::Existing existing = StagedDirectory::Existing::kRefuse;
  CacheTrial granularity = CacheTrial::kTensor;  // of what is written: kTensor or kHeads
  FileCopy weights = FileCopy::kOwn;
  CalibrationOptions calibration;
  EvaluationOptions evaluation;
  std::optional<int64_t> memory_budget_bytes;
  DataType data_type = DataType::kAuto;
  RopeFactors rope_factors = RopeFactors::kServed;
  std::vector<std::string> command_line;  // for the report
  std::string version;
};

// A cache, and what it does to the model beside one that is not quantized.
struct MeasuredCache {
  CacheTrial trial = CacheTrial::kUnscaled;
  DivergenceSummary figures;
};

struct CalibrateKvResult {
  std::vector<MeasuredCache> caches;  // from the simplest to the finest
  CacheTrial needed = CacheTrial::kUnscaled;
  double original_perplexity = 0.0;
};

// "scale 1.0", "a scale per tensor", "a scale per head".
const char* Describe(CacheTrial trial);

// The simplest cache whose KL is at most a tenth above the least.
CacheTrial NeededCache(const std::vector<MeasuredCache>& caches);

// Leaves the complete output directory or nothing: the weight files of the source, copied (or
// linked), one more of the scales, and the config that says so. Throws: as RunQuantize;
// kUnsupported for a checkpoint that has such scales already, and for a config block that has no
// place for them.
CalibrateKvResult RunCalibrateKv(const CalibrateKvRequest& request, ProgressSink& progress);

}  // namespace narrow
