#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "evaluation/perplexity.h"
#include "pipeline/memory_plan.h"
#include "pipeline/quantize.h"
#include "pipeline/streaming_pass.h"

namespace narrow {
namespace {

// A directory under $TMPDIR that is removed at the end.
class ScratchPath {
 public:
  ScratchPath() = default;
  ~ScratchPath() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  ScratchPath(const ScratchPath&) = delete;
  ScratchPath& operator=(const ScratchPath&) = delete;

  const std::filesystem::path& Make() const {
    std::string name = (std::filesystem::temp_directory_path() / "narrow-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      Fail(ErrorCode::kIo, "{}: no directory for hidden states can be made; set TMPDIR", name);
    }
    path_ = name;
    return path_;
  }

 private:
  mutable std::filesystem::path path_;
};

}  // namespace

EvaluateResult RunEvaluate(const EvaluateRequest& request, ProgressSink& progress) {
  const ModelSource model = OpenModel(request.model_directory, WeightState::kQuantizedToo);
  const Tokenizer tokenizer = Tokenizer::FromDirectory(request.model_directory.string());
  const TokenizedText text =
      TokenizeEvaluation(request.evaluation, tokenizer, model.config.vocabulary);
  if (text.notice) progress.Warning(*text.notice);
  const auto start = std::chrono::steady_clock::now();
  PassRequest pass;
  pass.checkpoint = model.checkpoint.get();
  pass.family = model.family;
  pass.config = model.config;
  pass.compute = ChooseComputeType(request.data_type);
  pass.scheme = &FindQuantizationScheme("fp8");
  pass.evaluation = &text.stream;
  pass.plan = ChoosePassPlan(ShapeOf(model, pass.compute, nullptr, nullptr, &text.stream),
                             request.memory_budget_bytes.value_or(DefaultMemoryBudget()))
                  .plan;
  const ScratchPath scratch;
  if (pass.plan.hidden_states == Placement::kFile) pass.work_directory = scratch.Make();
  PassResult result = RunStreamingPass(pass, progress);
  EvaluateResult evaluation;
  evaluation.dataset = text.dataset;
  evaluation.notice = text.notice;
  evaluation.windows = static_cast<int64_t>(result.stored_window_nll.size());
  evaluation.window_tokens = request.evaluation.window_tokens;
  evaluation.perplexity = Perplexity(result.stored_window_nll);
  evaluation.window_nll = std::move(result.stored_window_nll);
  evaluation.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  evaluation.flops = result.evaluation_flops;
  return evaluation;
}

}  // namespace narrow
