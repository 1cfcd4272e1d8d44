#include <chrono>

#include "evaluation/perplexity.h"
#include "pipeline/quantize.h"
#include "pipeline/streaming_pass.h"

namespace narrow {

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
