#include <chrono>
#include <optional>

#include "base/ranks.h"
#include "evaluation/perplexity.h"
#include "jobs/evaluation_parts.h"
#include "jobs/job_paths.h"
#include "jobs/quantize.h"
#include "jobs/run_plan.h"
#include "jobs/shared_job.h"
#include "stream/streaming_pass.h"

namespace narrow {
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
  const bool cached = HasFloat8Cache(model);
  JobShape shape = ShapeOf(model, pass.compute, nullptr, nullptr, &text.stream);
  shape.evaluation_variants = SourceVariants(model, request.attention);
  TakeShareOfTexts(JobRanks().count(), shape);
  pass.plan = SharePlan([&] { return PlanBeforeWork(request, model, nullptr, shape, text.stream); },
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
