#include "jobs/compare.h"

#include <chrono>
#include <optional>
#include <utility>

#include "base/memory_use.h"
#include "base/parallel.h"
#include "base/ranks.h"
#include "jobs/evaluation_parts.h"
#include "jobs/job_paths.h"
#include "jobs/run_plan.h"
#include "jobs/run_report.h"
#include "jobs/shared_job.h"
#include "quantization/layer_probe.h"
#include "stream/streaming_pass.h"

namespace narrow {
namespace {

PassSource SourceOf(const ModelSource& model) {
  return {model.checkpoint.get(), model.family, model.config};
}

ModelTokenizer TokenizerOf(const std::filesystem::path& directory, const ModelSource& model) {
  return ModelTokenizer(directory, model.config.vocabulary, model.checkpoint->config(),
                        model.family->begins_windows);
}

// How a checkpoint is quantized, in the words of its config.
std::string MethodOf(const ModelSource& model) {
  const Json& config = model.checkpoint->config();
  const auto block = config.find("quantization_config");
  if (block == config.end() || !block->is_object()) return "not quantized";
  return OptionalString(*block, "quant_method", "quantization_config").value_or("quantized");
}

class Comparison {
 public:
  // Throws: as RunCompare, for what the two directories say.
  Comparison(const CompareRequest& request, ProgressSink& progress)
      : request_(request),
        progress_(progress),
        reference_(OpenModel(request.reference_directory, WeightState::kDequantized,
                             request.rope_factors)),
        judged_(
            OpenModel(request.model_directory, WeightState::kQuantizedToo, request.rope_factors)),
        tokenizer_(TokenizerOf(request.reference_directory, reference_)) {
    CheckComparable(reference_, judged_);
    for (const ModelSource* model : {&reference_, &judged_}) {
      for (const std::string& warning : model->warnings) Warn(warning);
    }
  }

  RunReport Run() {
    ReadText();
    const TokenStream& text = text_->stream;
    PassRequest pass;
    pass.checkpoint = reference_.checkpoint.get();
    pass.family = reference_.family;
    pass.config = reference_.config;
    pass.judged = SourceOf(judged_);
    pass.compute = ChooseComputeType(request_.data_type);
    pass.evaluation = &text;
    pass.attention = request_.attention;
    pass.attribution_windows = request_.attribution_windows;
    const TokenStream probe = ProbeOf(text);
    pass.probe = &probe;
    JobShape shape = ShapeOf(reference_, pass.compute, nullptr, nullptr, &text);
    SetComparison(request_, judged_, text, shape);
    TakeShareOfTexts(JobRanks().count(), shape);
    const auto plan = [&] { return PlanBeforeWork(request_, reference_, &judged_, shape, text); };
    pass.plan = SharePlan(plan, progress_).pass;
    CheckSameModel(reference_);
    CheckSameModel(judged_);
    CheckSameWindows(text);
    std::optional<Spill> spill;
    if (pass.plan.hidden_states == Placement::kFile) {
      pass.work_directory = spill.emplace(request_).path();
    }
    const PassResult result = RunStreamingPass(pass, progress_);
    Fill(result, pass.compute);
    return std::move(report_);
  }

 private:
  void Warn(const std::string& warning) {
    report_.warnings.push_back(warning);
    progress_.Warning(warning);
  }

  void ReadText() {
    text_ = TokenizeEvaluation(request_.evaluation, tokenizer_);
    for (const std::string& remark : RemarksOf(*text_)) Warn(remark);
    const auto length =
        LengthRemark(text_->stream, "evaluation windows", reference_.config.max_positions);
    if (length) Warn(*length);
    CheckTokens();
  }

  // What both were served would not be the same text otherwise.
  void CheckTokens() {
    ModelTokenizer other = TokenizerOf(request_.model_directory, judged_);
    if (tokenizer_.GetIfAny() == nullptr) return;  // the text is token ids
    if (other.GetIfAny() == nullptr) {
      return Warn(
          "--model_dir has no tokenizer that can be read: its tokens are taken to be those "
          "of --reference");
    }
    const std::vector<int32_t>& tokens = text_->stream.tokens;
    const std::vector<int32_t> others =
        TokenizeEvaluation(request_.evaluation, other).stream.tokens;
    const auto [a, b] = std::ranges::mismatch(tokens, others);
    if (a == tokens.end() && b == others.end()) return;
    const auto id = [](auto at, auto end) {
      return at == end ? std::string("none") : fmt::format("{}", *at);
    };
    Fail(ErrorCode::kUnsupported,
         "the tokenizers give other tokens for the evaluation text: token {} is {} with that of "
         "--reference and {} with that of --model_dir; --reference names the model that the "
         "checkpoint was made of",
         a - tokens.begin(), id(a, tokens.end()), id(b, others.end()));
  }

  void Fill(const PassResult& result, ComputeType compute) {
    const auto name = [](const std::string& given, const std::filesystem::path& directory) {
      return given.empty() ? directory.string() : given;
    };
    report_.command_line = request_.command_line;
    report_.version = request_.version;
    report_.model = name(request_.reference_name, request_.reference_directory);
    report_.judged = RunReport::Judged{name(request_.model_name, request_.model_directory),
                                       MethodOf(judged_), HasFloat8Cache(judged_)};
    FillEvaluation(report_.judged->cached ? std::optional(request_.attention) : std::nullopt,
                   *text_, tokenizer_.GetIfAny(), result, report_);
    report_.evaluation->rope_factors = RopeFactorsInUse(reference_.config);
    FillLayers(result, report_);
    report_.compute = {ThreadCount(), compute == ComputeType::kBfloat16 ? "bfloat16" : "float32",
                       InstructionSetName()};
    report_.compute.ranks = TimesOfRanks(Seconds());
    report_.seconds.evaluation = result.evaluation_seconds;
    report_.seconds.total = Seconds();
    report_.peak_rss_bytes = PeakResidentBytes();
  }

  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const CompareRequest& request_;
  ProgressSink& progress_;
  RunReport report_;
  const ModelSource reference_;
  const ModelSource judged_;
  ModelTokenizer tokenizer_;
  std::optional<TokenizedText> text_;
};

}  // namespace

RunReport RunCompare(const CompareRequest& request, ProgressSink& progress) {
  CheckPaths(request);
  return Comparison(request, progress).Run();
}

}  // namespace narrow
