// Quantizes a tiny model with the installed library, and asks for what it has to refuse.
#include <narrow/narrow.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <limits>

namespace {

void Check(bool condition, const char* what) {
  if (condition) return;
  std::cerr << "not so: " << what << "\n";
  std::exit(1);
}

// Counts what it is told.
class Counter final : public narrow::Progress {
 public:
  void BeginPhase(std::string_view, int64_t total, std::string_view) override {
    Check(!running_, "one phase at a time");
    running_ = true;
    total_ = total;
    done_ = 0;
  }
  void Advance(int64_t done) override { done_ += done; }
  void EndPhase() override {
    Check(done_ == total_, "a phase ends when all of it is done");
    running_ = false;
    ++phases_;
  }
  int phases() const { return phases_; }

 private:
  bool running_ = false;
  int64_t total_ = 0;
  int64_t done_ = 0;
  int phases_ = 0;
};

// The status and, in the text, the word that the refusal has to name.
void Refused(const narrow::Request& good, int status, const char* word,
             const std::function<void(narrow::Request&)>& change) {
  narrow::Request request = good;
  request.output_dir += "-refused";
  change(request);
  try {
    narrow::Quantize(request);
  } catch (const narrow::Failure& failure) {
    std::cout << failure.status() << ": " << failure.what() << "\n";
    Check(failure.status() == status, "the status of a refusal");
    Check(std::string_view(failure.what()).find(word) != std::string_view::npos, word);
    Check(!std::filesystem::exists(request.output_dir), "nothing is left of what was refused");
    return;
  }
  Check(false, "a request is refused");
}

}  // namespace

// Usage: consumer MODEL_DIR OUTPUT_DIR
int main(int argc, char** argv) {
  Check(argc == 3, "two arguments");
  narrow::Request request;
  request.model_dir = argv[1];
  request.output_dir = argv[2];
  request.kv_cache_dtype = "fp8";
  request.num_calib_data = 8;
  request.seq_len = 64;
  request.eval_windows = 2;
  request.window_tokens = 64;

  using narrow::Request;
  Refused(request, 3, "no such", [](Request& bad) { bad.model_dir = "/nowhere"; });
  Refused(request, 3, "org/none", [](Request& bad) { bad.model_dir = "org/none"; });
  Refused(request, 2, "model_dir", [](Request& bad) { bad.model_dir.clear(); });
  Refused(request, 2, "quant_algo", [](Request& bad) { bad.quant_algo = "best"; });
  Refused(request, 2, "seq_len", [](Request& bad) { bad.seq_len = 0; });
  Refused(request, 2, "min_kv_scale",
          [](Request& bad) { bad.min_kv_scale = std::numeric_limits<double>::quiet_NaN(); });
  Refused(request, 2, "max_kl", [](Request& bad) { bad.max_kl = bad.keep_layers = 1; });
  Refused(request, 2, "exclude_layers", [](Request& bad) { bad.exclude_layers = {"no such"}; });

  Refused(request, 2, "attention", [](Request& bad) { bad.attention = "int8"; });
  Refused(request, 2, "rope_factors", [](Request& bad) { bad.rope_factors = "long"; });
  Refused(request, 2, "kv_cache_dtype", [](Request& bad) { bad.skip_calibration = true; });
  Refused(request, 2, "exact_quotient", [](Request& bad) { bad.exact_quotient = true; });
  Refused(request, 2, "stream", [](Request& bad) { bad.stream = true; });
  Refused(request, 2, "stream_disk", [](Request& bad) { bad.stream_disk = 1; });
  Refused(request, 2, "format",
          [](Request& bad) { bad.format = "quark", bad.custom_mode = "fp8"; });
  Refused(request, 3, "no-such", [](Request& bad) {
    bad.kv_cache_dtype.reset();
    bad.recipe = "/no-such.json";
  });

  Counter progress;
  const narrow::Result result = narrow::Quantize(request, &progress);
  std::cout << result.summary;
  Check(progress.phases() > 0, "progress is told");
  Check(result.evaluation && result.evaluation->windows == 2, "two windows");
  Check(result.evaluation->original_perplexity > 1 && result.evaluation->perplexity > 1 &&
            result.evaluation->kl > 0 && result.evaluation->top1_agreement <= 1,
        "figures of an evaluation");
  Check(result.seconds > 0 && result.peak_memory_bytes > 0, "time and memory");

  Request plain = request;  // the figure of one arithmetic of attention
  plain.output_dir += "-bf16-attention";
  plain.attention = "bf16";
  const narrow::Result other = narrow::Quantize(plain);
  Check(other.evaluation && other.evaluation->perplexity != result.evaluation->perplexity,
        "attention over a dequantized cache is another figure");

  // From the weights alone, in every scheme that needs no calibration.
  for (const char* scheme : {"fp8_dynamic", "fp8_block", "W8A8", "W4A16", "W4A16_ASYM", "MXFP4",
                             "MXFP4A16", "MXFP8", "NVFP4A16"}) {
    Request request_of;
    request_of.model_dir = request.model_dir;
    request_of.output_dir = request.output_dir.string() + "-" + scheme;
    request_of.skip_calibration = true;
    request_of.quant_scheme = scheme;
    const narrow::Result done = narrow::Quantize(request_of);
    std::cout << scheme << ": " << done.summary;
    Check(!done.evaluation && !done.summary.empty() && done.peak_memory_bytes > 0, scheme);
  }
  Check(std::string_view(narrow::Version()) == NARROW_VERSION, "the version");
  return 0;
}
