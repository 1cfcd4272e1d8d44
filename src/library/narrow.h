// narrow as a library: a Hugging Face checkpoint to a quantized one, in the caller's process. This
// header is all of its interface; it needs the standard library alone.
//
//   narrow::Request request;
//   request.model_dir = "Llama-3.1-8B-Instruct";
//   request.output_dir = "Llama-3.1-8B-Instruct-FP8-KV";
//   request.kv_cache_dtype = "fp8";
//   const narrow::Result result = narrow::Quantize(request);
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace narrow {

// What can be asked for. The members are the flags of `narrow quantize` by their names, which its
// --help describes; a flag that is not here, and a member that is not set, is as it is without it.
struct Request {
  // Checkpoint to quantize: a directory, or org/name[@revision] of the Hugging Face hub.
  std::filesystem::path model_dir;
  std::filesystem::path output_dir;  // directory to make
  bool overwrite = false;

  std::optional<std::string> quant_scheme;
  std::optional<std::string> kv_cache_dtype;  // "fp8"; not set: the KV cache is left
  std::optional<double> min_kv_scale;
  std::optional<std::string> quant_algo;  // "gptq", "none"
  std::optional<std::string> head_basis;  // "fitted", "none"
  bool no_weight_matrix_merge = false;
  std::vector<std::string> exclude_layers;  // patterns of full names
  std::optional<int64_t> keep_layers;
  std::optional<double> max_kl;       // nats per token
  std::optional<std::string> format;  // "fp8", "quark", "compressed-tensors"
  std::optional<std::string> custom_mode;
  std::optional<int64_t> max_shard_size;  // bytes

  // From the weights alone, of any architecture: then what needs a forward pass is refused, and
  // members about texts and evaluation count for nothing.
  bool skip_calibration = false;
  std::optional<std::filesystem::path> recipe;
  std::vector<std::string> include_layers;  // patterns of full names
  bool exact_quotient = false;

  std::optional<std::string> dataset;  // for calibration: a path or a name
  std::optional<int64_t> num_calib_data;
  std::optional<int64_t> seq_len;  // tokens
  std::optional<std::string> data_dir;
  bool skip_evaluation = false;
  std::optional<std::string> eval_data;
  std::optional<int64_t> eval_windows;
  std::optional<int64_t> window_tokens;
  std::optional<std::string> attention;          // "both", "fp8", "bf16"
  std::optional<std::string> eval_window_order;  // "spread", "first"
  std::optional<std::string> window_bos;         // "always", "never"; nothing: by family
  std::optional<int64_t> attribution_windows;
  bool no_special_tokens = false;

  bool stream = false;                 // of a model of the hub
  std::optional<int64_t> stream_disk;  // bytes

  std::optional<std::string> data_type;     // "auto", "bfloat16", "float32"
  std::optional<std::string> rope_factors;  // "short", "long"
  std::optional<int> threads;
  std::optional<int64_t> memory_budget;  // bytes of this process
  std::optional<std::filesystem::path> work_dir;
  std::optional<std::string> resume;    // "auto", "never"
  std::optional<double> save_interval;  // seconds
};

// Is told what a job is doing, from one thread at a time. Does not throw.
class Progress {
 public:
  virtual ~Progress() = default;
  // A sentence for the user.
  virtual void Info(std::string_view /*message*/) {}
  // Something the user should act on.
  virtual void Warning(std::string_view /*message*/) {}
  // A phase of `total` units ("tokens", "bytes", "layer-parts") begins; `done` more are finished.
  // One phase runs at a time. What an earlier run had finished counts, too.
  virtual void BeginPhase(std::string_view /*name*/, int64_t /*total*/, std::string_view /*unit*/) {
  }
  virtual void Advance(int64_t /*done*/) {}
  virtual void EndPhase() {}
};

// What a job measured. Everything else is in narrow-report.json of the output directory.
struct Result {
  struct Evaluation {
    std::string dataset;
    int64_t windows = 0;
    double original_perplexity = 0;
    double perplexity = 0;      // as vLLM runs the checkpoint, with the attention asked for
    double kl = 0;              // mean divergence from the original, nats per token
    double top1_agreement = 0;  // share of tokens with the original's most probable successor
  };
  // Nothing with skip_evaluation, and for a job from the weights alone.
  std::optional<Evaluation> evaluation;
  std::vector<std::string> warnings;
  double seconds = 0;
  int64_t peak_memory_bytes = 0;  // resident, of the process, so far
  std::string summary;            // for people: a table, or a line; lines end in a newline
};

// The one exception of this library. Its text is one line that says what was expected, what was
// found, and what to do.
class Failure : public std::runtime_error {
 public:
  Failure(int status, const std::string& message) : std::runtime_error(message), status_(status) {}
  // As the exit status of the program: 1 internal error, 2 a member of the request, 3 not found, 4
  // damaged input, 5 not supported, 6 read or write failed, 7 NaN or infinity, 8 memory.
  int status() const noexcept { return status_; }

 private:
  int status_;
};

// Leaves the complete output directory, or nothing; an interrupted job continues when the same
// request is made again, unless `resume` is "never". Files are byte for byte those of the program,
// but for times and memory in the reports. One job at a time in a process; it computes on threads
// of its own. `progress` may be null. Throws: Failure.
Result Quantize(const Request& request, Progress* progress = nullptr);

// "0.1.0".
const char* Version() noexcept;

}  // namespace narrow
