#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/ranks.h"
#include "evaluation/perplexity.h"
#include "io/directory_lock.h"
#include "io/paths.h"
#include "jobs/job_paths.h"
#include "jobs/quantize.h"
#include "jobs/run_plan.h"
#include "jobs/shared_job.h"
#include "stream/streaming_pass.h"

namespace narrow {
namespace {

// Where files go that no one asked for: the first of these variables that is set, else /tmp.
std::filesystem::path TemporaryParent() {
  for (const char* variable : {"TMPDIR", "TMP", "TEMP", "TEMPDIR"}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') return value;
  }
  return "/tmp";
}

// A directory for hidden states, gone with the object.
class Spill {
 public:
  explicit Spill(const EvaluateRequest& request) {
    std::filesystem::path parent = request.work_directory.value_or(TemporaryParent());
    if (request.work_directory) parent = ResolvePath(parent);
    if (request.work_directory) MakeDirectories(parent);
    std::error_code error;
    if (!std::filesystem::is_directory(parent, error)) {
      Fail(ErrorCode::kNotFound,
           "hidden states do not fit in memory, and {}, the directory for temporary files "
           "($TMPDIR), is not there; name one with --work_dir",
           parent.string());
    }
    directory_.emplace(parent);
  }
  const std::filesystem::path& path() const { return directory_->path(); }

 private:
  std::optional<TemporaryDirectory> directory_;
};

// All ranks evaluate the same text.
void CheckSameWindows(const TokenStream& text) {
  Fingerprint facts;
  AddHash(facts, "evaluation tokens", std::as_bytes(std::span(text.tokens)));
  AddHash(facts, "evaluation windows", std::as_bytes(std::span(text.sequences)));
  CheckSameJob(facts);
}

}  // namespace

EvaluateResult RunEvaluate(const EvaluateRequest& request, ProgressSink& progress) {
  CheckPaths(request);
  const ModelSource model =
      OpenModel(request.model_directory, WeightState::kQuantizedToo, request.rope_factors);
  for (const std::string& warning : model.warnings) progress.Warning(warning);
  ModelTokenizer tokenizer(request.model_directory, model.config.vocabulary,
                           model.checkpoint->config(), model.family->begins_windows);
  const TokenizedText text = TokenizeEvaluation(request.evaluation, tokenizer);
  for (const std::string& remark : RemarksOf(text)) progress.Warning(remark);
  const auto length = LengthRemark(text.stream, "evaluation windows", model.config.max_positions);
  if (length) progress.Warning(*length);
  const auto start = std::chrono::steady_clock::now();
  PassRequest pass;
  pass.checkpoint = model.checkpoint.get();
  pass.family = model.family;
  pass.config = model.config;
  pass.compute = ChooseComputeType(request.data_type);
  pass.evaluation = &text.stream;
  pass.attention = request.attention;
  // Without it, the plan looks at the disk that is here: nothing may have to spill.
  std::error_code error;
  std::filesystem::path work_directory = request.work_directory.value_or(TemporaryParent());
  if (!request.work_directory && !std::filesystem::is_directory(work_directory, error)) {
    work_directory = std::filesystem::current_path();
  }
  const bool cached = HasFloat8Cache(model);
  JobShape shape = ShapeOf(model, pass.compute, nullptr, nullptr, &text.stream);
  shape.evaluation_variants = SourceVariants(model, request.attention);
  TakeShareOfTexts(JobRanks().count(), shape);
  pass.plan =
      SharePlan([&] { return PlanBeforeWork(request, model, shape, text.stream, work_directory); },
                progress)
          .pass;
  CheckSameModel(model);
  CheckSameWindows(text.stream);
  std::optional<Spill> spill;
  if (pass.plan.hidden_states == Placement::kFile) {
    pass.work_directory = spill.emplace(request).path();
  }
  PassResult result = RunStreamingPass(pass, progress);
  EvaluateResult evaluation;
  evaluation.dataset = text.dataset;
  evaluation.notice = text.notice;
  static_cast<EvaluatedWindows&>(evaluation) = DescribeWindows(text);
  evaluation.rope_factors = RopeFactorsInUse(model.config);
  evaluation.perplexity = Perplexity(result.stored_window_nll, PredictedTokens(text.stream));
  if (cached) evaluation.attention = request.attention;
  if (cached && request.attention == AttentionFigures::kDequantized) {
    evaluation.perplexity_bf16_attention = evaluation.perplexity;
  }
  if (result.deployed_bf16_attention) {
    evaluation.perplexity_bf16_attention = result.deployed_bf16_attention->perplexity;
  }
  evaluation.window_nll = std::move(result.stored_window_nll);
  evaluation.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  evaluation.flops = result.evaluation_flops;
  return evaluation;
}

}  // namespace narrow
