// What a checkpoint holds and what is wrong with it, from its headers, scales and configuration.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace narrow {

struct InspectedTensor {
  std::string name;
  Dtype dtype = Dtype::kF32;
  Shape shape;
  int64_t bytes = 0;
  std::string file;          // relative to the directory
  std::vector<float> scale;  // its values, when it is a floating scale of at most 16 elements
  int64_t begin = 0;         // first byte in the file
};

struct DtypeTotal {
  Dtype dtype = Dtype::kF32;
  int64_t tensors = 0;
  int64_t elements = 0;
  int64_t bytes = 0;
};

enum class Severity { kError, kWarning };

struct Finding {
  Severity severity = Severity::kError;
  std::string text;  // one line
};

struct InspectionReport {
  std::string directory;
  std::string model_type;    // of config.json; empty when it has none
  std::string quant_method;  // of quantization_config; empty for an unquantized checkpoint
  std::vector<InspectedTensor> tensors;  // by name
  std::vector<DtypeTotal> totals;        // most bytes first
  int64_t files = 0;
  int64_t bytes = 0;               // of all tensors
  std::vector<std::string> notes;  // what is no problem, but to be known
  std::vector<Finding> problems;

  bool HasErrors() const {
    return std::any_of(problems.begin(), problems.end(),
                       [](const Finding& finding) { return finding.severity == Severity::kError; });
  }
};

// Errors are what keeps vLLM from loading the checkpoint, makes it compute with other numbers than
// meant, or is no number; warnings are what it ignores. Damaged weights and an index that does not
// fit the files are errors in the report, beside the tensors of the files that can be read. Of the
// files beside the weights, a missing or incomplete tokenizer and an adapter are warnings. For an
// upload, what the hub refuses is an error, and what readers of the model would miss a warning.
// Throws: kNotFound without directory, config.json or any weights; kCorruptInput for a config.json
// that is no JSON object; kIo. Source: docs/formats/checkpoint.md, loading rules of vLLM 0.32.
struct InspectOptions {
  // Reading the numbers takes as long as reading all files; without it, NaN and infinity in the
  // weights are not found.
  enum class Numbers { kRead, kNotRead } numbers = Numbers::kRead;
  ProgressSink* progress = nullptr;  // of reading them; null: silent
  bool for_upload = false;           // also what is missing for an upload to the Hugging Face hub
};
InspectionReport Inspect(const std::filesystem::path& directory,
                         const InspectOptions& options = {});

// An aligned table of the tensors, totals per dtype, and the problems. Names from the checkpoint
// are made printable.
std::string RenderInspection(const InspectionReport& report);

// {"directory", "model_type", "quant_method", "files", "bytes", "totals": [{"dtype", "tensors",
// "elements", "bytes"}], "tensors": [{"name", "dtype", "shape", "bytes", "file", "scale"?}],
// "notes": [text], "problems": [{"severity", "text"}]}. A scale that is not finite is null.
std::string RenderInspectionJson(const InspectionReport& report);

}  // namespace narrow
