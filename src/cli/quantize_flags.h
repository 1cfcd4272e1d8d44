// The flags of `narrow quantize`, which `narrow plan` takes too.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "jobs/data_free.h"
#include "jobs/quantize.h"

namespace narrow {

struct QuantizeFlags {
  std::string model_dir;
  std::string output_dir;
  std::string quant_scheme = "fp8";
  std::string format;  // empty: that of --custom_mode, else the scheme's best
  std::string recipe;
  std::vector<std::string> include_layers;
  bool exact_quotient = false;
  bool skip_calibration = false;
  std::string kv_cache_dtype;
  double min_kv_scale = 0.0;
  std::string dataset;
  int64_t num_calib_data = 128;
  int64_t seq_len = 512;
  int64_t batch_size = 1;
  std::string model_export = "hf_format";
  std::string custom_mode;  // an older name of --format
  std::string max_shard_size = "5GB";
  std::vector<std::string> exclude_layers;
  int64_t keep_layers = 0;
  double max_kl = 0;  // 0: no limit
  bool calibrate_all_experts = false;
  bool no_weight_matrix_merge = false;
  bool weight_matrix_merge = false;
  bool multi_gpu = false;
  bool stream = false;
  std::string stream_disk;
  bool skip_quantization = false;
  bool skip_evaluation = false;
  bool overwrite = false;
  std::string quant_algo;  // empty: what is best for the schemes
  std::string head_basis = "fitted";
  MemoryFlags memory;
  std::string work_dir;
  std::string resume = "auto";
  double save_interval = 60;
  int64_t attribution_windows = kDefaultAttributionWindows;
  EvaluationFlags evaluation;
  AttentionFlags attention;
  ComputeFlags compute;
};

// `flags` is filled when the command line is parsed and outlives `command`.
void AddQuantizeFlags(CLI::App& command, QuantizeFlags& flags);

// Throws: kInvalidArgument, kUnsupported for flags that contradict each other.
void CheckQuantizeFlags(const QuantizeFlags& flags);

// Whether the job needs no forward pass: asked for, or implied by a scheme without calibration that
// is rounded to nearest and not evaluated.
bool IsDataFree(const QuantizeFlags& flags);
// Throws: as GetSchemePreset and ReadRecipe; kInvalidArgument for flags that need a forward pass.
DataFreeRequest MakeDataFreeRequest(const QuantizeFlags& flags);
// Bytes of --stream_disk; nothing without --stream.
std::optional<int64_t> StreamLimit(const QuantizeFlags& flags);

// Sets the number of threads, too.
QuantizeRequest MakeQuantizeRequest(const QuantizeFlags& flags);

}  // namespace narrow
