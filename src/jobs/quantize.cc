#include "jobs/quantize.h"

#include <chrono>

#include "base/memory_use.h"
#include "base/parallel.h"
#include "base/ranks.h"
#include "evaluation/perplexity.h"
#include "formats/config.h"
#include "io/json.h"
#include "io/model_directory.h"
#include "jobs/job_paths.h"
#include "jobs/run_plan.h"
#include "jobs/run_report.h"
#include "jobs/scheme_choice.h"
#include "jobs/shared_job.h"
#include "jobs/streamed_model.h"
#include "model/side_files.h"
#include "plan/memory_plan.h"
#include "quantization/warnings.h"
#include "report/report_html.h"
#include "schemes/scheme_presets.h"
#include "stream/output_checkpoint.h"
#include "stream/streaming_pass.h"

namespace narrow {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

LayerQuantizationOptions QuantizationOptions(const QuantizeRequest& request,
                                             const ModelSource& model) {
  LayerQuantizationOptions options;
  options.scheme = &FindQuantizationScheme(request.scheme);
  options.weight_scales = request.weight_scales;
  options.cache = request.cache;
  if (request.attention != AttentionFigures::kDequantized) {
    options.attention = AttentionArithmetic::kFloat8;
  }
  options.min_cache_scale = request.min_cache_scale;
  options.rounding = request.rounding;
  options.head_basis = request.head_basis;
  options.dequantized = model.config.dtype;
  options.excluded = MatchExcluded(*model.family, model.config, request.exclude_patterns);
  if (request.schemes) SetSchemes(request, model, options);
  return options;
}

// Everything that decides the bytes of the output.
Fingerprint JobFingerprint(const QuantizeRequest& request, const ModelSource& model,
                           ComputeType compute, const LayerQuantizationOptions& quantization,
                           const TokenStream& calibration, const TokenStream* evaluation) {
  Fingerprint fingerprint;
  fingerprint["program version"] = request.version;
  fingerprint["--quant_scheme"] = request.scheme;
  fingerprint["--kv_cache_dtype"] = request.cache == CacheScheme::kFp8 ? "fp8" : "none";
  fingerprint["--min_kv_scale"] = fmt::format("{}", request.min_cache_scale);
  fingerprint["weight scales"] =
      request.weight_scales == WeightScales::kPerMatrix ? "per matrix" : "per fused group";
  fingerprint["--exclude_layers"] = fmt::format("{}", fmt::join(request.exclude_patterns, " "));
  fingerprint["--keep_layers"] = fmt::format("{}", request.keep.groups);
  fingerprint["--max_kl"] =
      request.keep.max_kl ? fmt::format("{}", *request.keep.max_kl) : std::string("none");
  if (request.calibrate_all_experts) fingerprint["--calibrate_all_experts"] = "yes";
  fingerprint["--custom_mode"] = request.export_format;
  fingerprint["--max_shard_size"] = fmt::format("{}", request.max_shard_bytes);
  fingerprint["--quant_algo"] =
      request.rounding == RoundingAlgorithm::kCompensated ? "gptq" : "none";
  if (request.cache == CacheScheme::kFp8) {
    fingerprint["--attention"] = AttentionName(request.attention);
  }
  if (quantization.schemes) {
    std::string schemes;
    for (const auto& [module, scheme] : quantization.schemes->of_modules) {
      const SchemePreset* preset = PresetOf(scheme);
      schemes += fmt::format("{} {}\n", module, preset == nullptr ? "" : preset->name);
    }
    AddHash(fingerprint, "schemes", std::as_bytes(std::span(schemes)));
    fingerprint["--format"] = quantization.schemes->format->name;
    fingerprint["--exact_quotient"] = quantization.schemes->exact_quotient ? "yes" : "no";
  }
  fingerprint["--head_basis"] = request.head_basis == HeadBasis::kFitted ? "fitted" : "none";
  fingerprint["block of second-order statistics (from --memory_budget)"] =
      fmt::format("{}", quantization.hessian_block_columns);
  fingerprint["data type"] = compute == ComputeType::kBfloat16 ? "bfloat16" : "float32";
  const std::string factors = RopeFactorsInUse(model.config);
  if (!factors.empty()) fingerprint["--rope_factors"] = factors;
  fingerprint["instruction set"] = InstructionSetName();
  if (!request.revision.empty()) fingerprint[kRevisionKey] = request.revision;
  const std::string config = model.checkpoint->config().dump();
  AddHash(fingerprint, "config.json", std::as_bytes(std::span(config)));
  AddFiles(fingerprint, *model.checkpoint);
  AddHash(fingerprint, "calibration tokens", std::as_bytes(std::span(calibration.tokens)));
  AddHash(fingerprint, "calibration texts", std::as_bytes(std::span(calibration.sequences)));
  if (evaluation != nullptr) {
    AddHash(fingerprint, "evaluation tokens", std::as_bytes(std::span(evaluation->tokens)));
    AddHash(fingerprint, "evaluation windows", std::as_bytes(std::span(evaluation->sequences)));
    fingerprint["--attribution_windows"] = fmt::format("{}", request.attribution_windows);
  }
  return fingerprint;
}

// The pass that chooses what to keep. With --max_kl it is an ordinary one, so that it is the last
// when the KL is low enough: then it returns its result. Otherwise the choice is in the job.
class KeepChoice {
 public:
  KeepChoice(const KeepRequest& request, const ModelSource& model,
             const std::set<std::string>& excluded)
      : request_(request), groups_(QuantizedGroups(model, excluded)) {
    if (request_.any() && model.config.experts.count > 0) {
      Fail(ErrorCode::kUnsupported,
           "--keep_layers and --max_kl go by the error of whole layers, and the experts of a {} "
           "are in memory a few at a time; name what to keep with --exclude_layers",
           model.family->architecture);
    }
    CheckKeepRequest(request_, groups_);
  }

  // `pass` without an output, if all it is for is the errors.
  PassRequest MeasuringPass(PassRequest pass) const {
    if (request_.max_kl) return pass;
    pass.output = nullptr;
    pass.evaluation = nullptr;
    return pass;
  }

  // Nothing: the KL is low enough without keeping anything.
  std::optional<KeptGroups> Choose(const PassResult& result) const {
    if (request_.max_kl && result.deployed->kl.mean <= *request_.max_kl) return std::nullopt;
    KeptGroups kept = request_.max_kl
                          ? KeepForKl(groups_, result.layers, KlOf(result), *request_.max_kl)
                          : KeepWorst(groups_, result.layers, request_.groups);
    kept.seconds =
        result.calibration_seconds + result.quantization_seconds + result.evaluation_seconds;
    return kept;
  }

 private:
  static MeasuredKl KlOf(const PassResult& result) {
    MeasuredKl measured;
    measured.mean = result.deployed->kl.mean;
    if (!result.part_costs.empty() && result.part_costs.back().kl.mean > 0.0) {
      const PartCost& last = result.part_costs.back();
      double added = 0.0;  // by what is no linear
      for (const PartCost& cost : result.part_costs) {
        if (cost.part == QuantizedPart::kCache || cost.part == QuantizedPart::kAttention) {
          added += cost.kl_added.mean;
        }
      }
      measured.cache_share = added / last.kl.mean;
    }
    return measured;
  }

  const KeepRequest& request_;
  std::vector<LayerGroup> groups_;
};

// One run of the command, from its checks to its report.
class QuantizeRun {
 public:
  // Reads what decides whether there is something to quantize. Throws: as RunQuantize.
  QuantizeRun(const QuantizeRequest& request, ProgressSink& progress)
      : request_(request),
        progress_(progress),
        model_(request.weights
                   ? OpenModel(request.weights(), WeightState::kDequantized, request.rope_factors)
                   : OpenModel(request.model_directory, WeightState::kDequantized,
                               request.rope_factors)),
        source_facts_(ReadSourceFacts(request.model_directory)),
        quantization_(QuantizationOptions(request, model_)),
        output_options_{&FindExportFormat(request.export_format), request.max_shard_bytes},
        keep_choice_(request.keep, model_, quantization_.excluded),
        side_files_(PlanSideFiles(request.model_directory)),
        tokenizer_(request.model_directory, model_.config.vocabulary, model_.checkpoint->config(),
                   model_.family->begins_windows) {
    CheckNamingLoads(*model_.family, *output_options_.format, request.cache);
    static_cast<void>(OutputConfig());
    report_.command_line = request.command_line;
    report_.version = request.version;
    report_.model = source_facts_.name;
    pass_.compute = ChooseComputeType(request.data_type);
    report_.compute = {ThreadCount(),
                       pass_.compute == ComputeType::kBfloat16 ? "bfloat16" : "float32",
                       InstructionSetName()};
    WarnOfModel();
    if (!request.schemes) return;
    for (const std::string& warning : ChooseForPass(request, model_).warnings) Warn(warning);
  }

  RunReport Run() {
    ReadTexts();
    const JobShape shape = Shape();
    const SharedPlan plan = SharePlan([&] { return Plan(shape); }, progress_);
    pass_.plan = plan.pass;
    quantization_.hessian_block_columns = plan.hessian_block_columns;
    // Nothing before this line writes; nothing after it can be refused for what the user asked, but
    // for a --max_kl that turns out to be out of reach.
    const Fingerprint fingerprint = JobFingerprint(request_, model_, pass_.compute, quantization_,
                                                   calibration_->stream, evaluated());
    CheckSameModel(model_);
    CheckSameJob(fingerprint);
    const std::unique_ptr<PassJob> job = OpenJob(request_, fingerprint);
    const PassResult result = RunPasses(*job);
    report_.compute.ranks = TimesOfRanks(SecondsSince(start_));
    job->Conclude([&] { WriteRest(*job, result); });
    return std::move(report_);
  }

 private:
  void Warn(const std::string& warning) {
    report_.warnings.push_back(warning);
    progress_.Warning(warning);
  }

  void WarnOfModel() {
    for (const std::string& warning : model_.warnings) Warn(warning);
    if (model_.family->experts == ModelFamily::Experts::kKept) {
      Warn(
          fmt::format("the experts of a {} stay as they are: vLLM loads no FP8 ones for it under "
                      "the names of each",
                      model_.family->architecture));
    }
    if (request_.head_basis == HeadBasis::kFitted && AdapterRemark(request_.model_directory)) {
      Warn(
          "an adapter lies in the model directory: with --head_basis fitted one trained for this "
          "model is silently wrong on the output; to serve it there, use --head_basis none");
    }
    for (const std::string& warning : side_files_.warnings) Warn(warning);
  }

  void Announce(const TokenizedText& text, std::string_view texts) {
    for (const std::string& remark : RemarksOf(text)) Warn(remark);
    const auto length = LengthRemark(text.stream, texts, model_.config.max_positions);
    if (length) Warn(*length);
  }

  void ReadTexts() {
    calibration_ = TokenizeCalibration(request_.calibration, tokenizer_);
    Announce(*calibration_, "calibration documents");
    FillCalibration(*calibration_, report_);
    if (!request_.evaluation) return;
    evaluation_ = TokenizeEvaluation(*request_.evaluation, tokenizer_);
    Announce(*evaluation_, "evaluation windows");
    words_ = tokenizer_.GetIfAny();
  }

  const TokenStream* evaluated() const { return evaluation_ ? &evaluation_->stream : nullptr; }

  JobShape Shape() {
    JobShape shape =
        ShapeOf(model_, pass_.compute, &quantization_, &calibration_->stream, evaluated());
    shape.resident_before_bytes += request_.weights_memory_bytes;
    SetMeasurements(request_,
                    evaluated() ? TokensOfSpread(*evaluated(), request_.attribution_windows) : 0,
                    shape);
    TakeShareOfTexts(JobRanks().count(), shape);
    if (shape.probe_tokens > 0) {
      probe_ = ProbeOf(evaluated() != nullptr ? *evaluated() : calibration_->stream);
    }
    return shape;
  }

  JobPlan Plan(const JobShape& shape) const {
    return PlanBeforeWork(request_, model_, quantization_.excluded, shape, calibration_->stream,
                          evaluated());
  }

  // What to keep, where that is to be measured, then the pass whose output stays.
  PassResult RunPasses(PassJob& job) {
    pass_.checkpoint = model_.checkpoint.get();
    pass_.family = model_.family;
    pass_.config = model_.config;
    pass_.calibration = &calibration_->stream;
    pass_.evaluation = evaluated();
    pass_.attribution_windows = request_.attribution_windows;
    pass_.calibrate_all_experts = request_.calibrate_all_experts;
    pass_.attention = request_.attention;
    pass_.probe = probe_ ? &*probe_ : nullptr;
    if (request_.keep.any() && !job.kept()) {
      PassResult measured = RunPass(job, true);
      std::optional<KeptGroups> kept;
      try {
        kept = keep_choice_.Choose(measured);
      } catch (const Error&) {
        job.Abandon();
        throw;
      }
      if (!kept) return measured;
      job.WriteWith(*std::move(kept));
    }
    if (job.kept()) quantization_.excluded.merge(job.kept()->modules());
    return RunPass(job, false);
  }

  PassResult RunPass(PassJob& job, bool measures) {
    OutputCheckpoint output(*model_.checkpoint, *model_.family, model_.config, quantization_,
                            output_options_, job.output_path());
    pass_.quantization = quantization_;
    pass_.output = JobRanks().leads() ? &output : nullptr;
    const PassRequest now = measures ? keep_choice_.MeasuringPass(pass_) : pass_;
    PassResult result = job.Run(now, progress_);
    if (now.output != nullptr) job.Attempt([&] { output.Finish(); });
    checkpoint_bytes_ = output.total_tensor_bytes();
    return result;
  }

  Json OutputConfig() const {
    const QuantizedCheckpointDescription output =
        DescribeOutput(*model_.family, model_.config, quantization_);
    const Json source = WithoutStatedSchemes(model_.checkpoint->config());
    if (!request_.schemes) return QuantizedConfig(source, *output_options_.format, output);
    return WithQuantizationConfig(source, SchemeConfig(request_, model_, quantization_.excluded),
                                  {output.own_head, output.architecture, output.model_dtype});
  }

  // Everything of the output but its weights.
  void WriteRest(PassJob& job, const PassResult& result) {
    FillReport(job, result);
    const std::filesystem::path directory = job.output_path();
    WriteFileAtomically(directory / "config.json", RenderJsonFile(OutputConfig()));
    CopySideFiles(side_files_, directory);
    report_.seconds.total = SecondsSince(start_);
    report_.peak_rss_bytes = PeakResidentBytes();
    WriteFileAtomically(directory / "narrow-report.json", RenderReportJson(report_));
    WriteFileAtomically(directory / "report.html", RenderReportHtml(report_));
    WriteFileAtomically(
        directory / "README.md",
        RenderModelCard(report_, source_facts_, request_.output_directory.filename().string()));
  }

  void FillReport(const PassJob& job, const PassResult& result) {
    FillStrategy(request_, quantization_,
                 DescribeOutput(*model_.family, model_.config, quantization_), report_);
    FillLayers(result, report_);
    const TokenVariety variety = CountVariety(calibration_->stream, model_.config.vocabulary);
    for (const std::string& warning : QuantizationWarnings(result.layers, variety)) Warn(warning);
    const auto remark = LatentCacheRemark(*model_.family, model_.config, quantization_.cache);
    if (remark) Warn(*remark);
    if (evaluation_) {
      const bool cached = request_.cache == CacheScheme::kFp8;
      FillEvaluation(cached ? std::optional(request_.attention) : std::nullopt, *evaluation_,
                     words_, result, report_);
      report_.evaluation->rope_factors = RopeFactorsInUse(model_.config);
    }
    if (request_.keep.any()) {
      FillKept(request_.keep, job.kept(), checkpoint_bytes_, report_);
    }
    report_.seconds.calibration = result.calibration_seconds;
    report_.seconds.quantization = result.quantization_seconds;
    if (evaluation_) report_.seconds.evaluation = result.evaluation_seconds;
  }

  const Clock::time_point start_ = Clock::now();
  const QuantizeRequest& request_;
  ProgressSink& progress_;
  RunReport report_;
  const ModelSource model_;
  const SourceFacts source_facts_;
  LayerQuantizationOptions quantization_;
  const OutputOptions output_options_;
  const KeepChoice keep_choice_;
  const SideFilePlan side_files_;
  ModelTokenizer tokenizer_;
  std::optional<TokenizedText> calibration_;
  std::optional<TokenizedText> evaluation_;
  const Tokenizer* words_ = nullptr;  // to show tokens; in memory before the plan counts it
  std::optional<TokenStream> probe_;
  PassRequest pass_;
  int64_t checkpoint_bytes_ = 0;
};

}  // namespace

void CheckBeforeWeights(const QuantizeRequest& request) {
  CheckPaths(request);
  StagedDirectory::CheckFinalPath(request.output_directory, request.existing);
  const std::string config = (request.model_directory / "config.json").string();
  static_cast<void>(DescribeModel(ReadJsonFile(config), config));
}

RunReport RunQuantize(const QuantizeRequest& request, ProgressSink& progress) {
  CheckPaths(request);
  if (JobRanks().leads()) {
    QuantizeJob::RemoveFinished(request);
    StagedDirectory::CheckFinalPath(request.output_directory, request.existing);
  }
  return QuantizeRun(request, progress).Run();
}

}  // namespace narrow
