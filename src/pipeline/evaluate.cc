#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "evaluation/perplexity.h"
#include "pipeline/quantize.h"
#include "pipeline/run_plan.h"
#include "pipeline/streaming_pass.h"

namespace narrow {
namespace {

// A directory made inside another one and removed at the end.
class ScratchPath {
 public:
  ScratchPath() = default;
  ~ScratchPath() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  ScratchPath(const ScratchPath&) = delete;
  ScratchPath& operator=(const ScratchPath&) = delete;

  const std::filesystem::path& MakeIn(const std::filesystem::path& parent) {
    std::error_code ignored;  // mkdtemp says what is wrong
    std::filesystem::create_directories(parent, ignored);
    std::string name = (parent / "narrow-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      Fail(ErrorCode::kIo,
           "{}: no directory for hidden states can be made: {}; name another --work_dir", name,
           std::strerror(errno));
    }
    path_ = name;
    return path_;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

EvaluateResult RunEvaluate(const EvaluateRequest& request, ProgressSink& progress) {
  const ModelSource model = OpenModel(request.model_directory, WeightState::kQuantizedToo);
  for (const std::string& warning : model.warnings) progress.Warning(warning);
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
  std::error_code no_temporary;
  const std::filesystem::path work_directory =
      request.work_directory.value_or(std::filesystem::temp_directory_path(no_temporary));
  if (work_directory.empty()) {
    Fail(ErrorCode::kNotFound,
         "there is no directory for temporary files ($TMPDIR); name one with --work_dir");
  }
  const JobPlan plan = PlanBeforeWork(
      request, model, ShapeOf(model, pass.compute, nullptr, nullptr, &text.stream), work_directory);
  pass.plan = plan.memory.plan;
  for (const std::string& line : ShortPlan(plan)) progress.Info(line);
  ScratchPath scratch;
  if (pass.plan.hidden_states == Placement::kFile) {
    pass.work_directory = scratch.MakeIn(work_directory);
  }
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
