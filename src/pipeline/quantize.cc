#include "pipeline/quantize.h"

#include <fnmatch.h>

#include <chrono>
#include <map>

#include "base/memory_use.h"
#include "base/parallel.h"
#include "evaluation/perplexity.h"
#include "export/config.h"
#include "export/report_html.h"
#include "export/side_files.h"
#include "io/model_directory.h"
#include "pipeline/guards.h"
#include "pipeline/job_paths.h"
#include "pipeline/memory_plan.h"
#include "pipeline/output_checkpoint.h"
#include "pipeline/quantize_job.h"
#include "pipeline/run_plan.h"
#include "pipeline/run_report.h"
#include "pipeline/streaming_pass.h"

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
  options.min_cache_scale = request.min_cache_scale;
  options.rounding = request.rounding;
  options.head_basis = request.head_basis;
  options.excluded = MatchExcluded(*model.family, model.config, request.exclude_patterns);
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
  fingerprint["--custom_mode"] = request.export_format;
  fingerprint["--max_shard_size"] = fmt::format("{}", request.max_shard_bytes);
  fingerprint["--quant_algo"] =
      request.rounding == RoundingAlgorithm::kCompensated ? "gptq" : "none";
  fingerprint["--head_basis"] = request.head_basis == HeadBasis::kFitted ? "fitted" : "none";
  fingerprint["block of second-order statistics (from --memory_budget)"] =
      fmt::format("{}", quantization.hessian_block_columns);
  fingerprint["data type"] = compute == ComputeType::kBfloat16 ? "bfloat16" : "float32";
  fingerprint["instruction set"] = InstructionSetName();
  const std::string config = model.checkpoint->config().dump();
  AddHash(fingerprint, "config.json", std::as_bytes(std::span(config)));
  for (const CheckpointReader::FileFacts& file : model.checkpoint->files()) {
    fingerprint["weight file " + file.name] =
        fmt::format("{} bytes of time {}", file.bytes, file.modified_ns);
  }
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
class Exceptions {
 public:
  Exceptions(const KeepRequest& request, const ModelSource& model,
             const std::set<std::string>& excluded)
      : request_(request), groups_(QuantizedGroups(model, excluded)) {
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
      measured.cache_share =
          last.part == QuantizedPart::kCache ? last.kl_added.mean / last.kl.mean : 0.0;
    }
    return measured;
  }

  const KeepRequest& request_;
  std::vector<LayerGroup> groups_;
};

}  // namespace

std::set<std::string> MatchExcluded(const ModelFamily& family, const DecoderConfig& config,
                                    const std::vector<std::string>& patterns) {
  std::set<std::string> excluded;
  const std::string head = family.model(config).lm_head_module;
  for (const std::string& pattern : patterns) {
    bool matched = fnmatch(pattern.c_str(), head.c_str(), 0) == 0;  // stays as it is anyway
    for (int64_t i = 0; i < config.layers; ++i) {
      for (const LinearSpec& linear : family.layer(config, i).linears) {
        if (fnmatch(pattern.c_str(), linear.module.c_str(), 0) != 0) continue;
        excluded.insert(linear.module);
        matched = true;
      }
    }
    if (!matched) {
      Fail(ErrorCode::kInvalidArgument,
           "--exclude_layers {} matches no linear layer of the model (an example of a name: {})",
           pattern, family.layer(config, 0).linears.front().module);
    }
  }
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerSpec layer = family.layer(config, i);
    std::map<LinearGroup, const LinearSpec*> first_of_group;
    for (const LinearSpec& linear : layer.linears) {
      const LinearSpec* first = first_of_group.try_emplace(linear.group, &linear).first->second;
      if (excluded.contains(first->module) != excluded.contains(linear.module)) {
        Fail(ErrorCode::kInvalidArgument,
             "--exclude_layers takes {} but not {}; vLLM fuses the two and refuses a checkpoint "
             "that "
             "quantizes only one: exclude both or none",
             excluded.contains(first->module) ? first->module : linear.module,
             excluded.contains(first->module) ? linear.module : first->module);
      }
    }
  }
  return excluded;
}

RunReport RunQuantize(const QuantizeRequest& request, ProgressSink& progress) {
  const auto start = Clock::now();
  RunReport report;
  const auto warn = [&](const std::string& warning) {
    report.warnings.push_back(warning);
    progress.Warning(warning);
  };
  report.command_line = request.command_line;
  report.version = request.version;
  CheckPaths(request);
  QuantizeJob::RemoveFinished(request);
  StagedDirectory::CheckFinalPath(request.output_directory, request.existing);
  const ModelSource model = OpenModel(request.model_directory, WeightState::kOriginal);
  for (const std::string& warning : model.warnings) warn(warning);
  if (request.head_basis == HeadBasis::kFitted && AdapterRemark(request.model_directory)) {
    warn(
        "an adapter lies in the model directory: with --head_basis fitted one trained for this "
        "model "
        "is silently wrong on the output; to serve it there, use --head_basis none");
  }
  const SourceFacts source_facts = ReadSourceFacts(request.model_directory);
  report.model = source_facts.name;
  LayerQuantizationOptions quantization = QuantizationOptions(request, model);
  const OutputOptions output_options = {&FindExportFormat(request.export_format),
                                        request.max_shard_bytes};
  static_cast<void>(QuantizedConfig(model.checkpoint->config(), *output_options.format,
                                    DescribeOutput(*model.family, model.config, quantization)));
  const Exceptions exceptions(request.keep, model, quantization.excluded);
  const SideFilePlan side_files = PlanSideFiles(request.model_directory);
  for (const std::string& warning : side_files.warnings) warn(warning);

  PassRequest pass;
  pass.compute = ChooseComputeType(request.data_type);
  report.compute = {ThreadCount(), pass.compute == ComputeType::kBfloat16 ? "bfloat16" : "float32",
                    InstructionSetName()};
  ModelTokenizer tokenizer(request.model_directory, model.config.vocabulary,
                           model.checkpoint->config());
  const auto announce = [&](const TokenizedText& text, std::string_view texts) {
    if (text.notice) warn(*text.notice);
    for (const std::string& warning : text.warnings) warn(warning);
    const auto length = LengthRemark(text.stream, texts, model.config.max_positions);
    if (length) warn(*length);
  };
  const TokenizedText calibration = TokenizeCalibration(request.calibration, tokenizer);
  announce(calibration, "calibration documents");
  FillCalibration(calibration, report);
  std::optional<TokenizedText> evaluation;
  const Tokenizer* words = nullptr;  // to show tokens; in memory before the plan counts it
  if (request.evaluation) {
    evaluation = TokenizeEvaluation(*request.evaluation, tokenizer);
    announce(*evaluation, "evaluation windows");
    words = tokenizer.GetIfAny();
  }

  const TokenStream* evaluated = evaluation ? &evaluation->stream : nullptr;
  JobShape shape = ShapeOf(model, pass.compute, &quantization, &calibration.stream, evaluated);
  SetMeasurements(request, evaluated ? TokensOfSpread(*evaluated, request.attribution_windows) : 0,
                  shape);
  const JobPlan plan =
      PlanBeforeWork(request, model, quantization.excluded, shape, calibration.stream, evaluated);
  pass.plan = plan.memory.plan;
  quantization.hessian_block_columns = plan.memory.hessian_block_columns;
  for (const std::string& line : ShortPlan(plan)) progress.Info(line);
  // Nothing before this line writes; nothing after it can be refused for what the user asked, but
  // for a --max_kl that turns out to be out of reach.
  QuantizeJob job(request, JobFingerprint(request, model, pass.compute, quantization,
                                          calibration.stream, evaluated));
  StagedDirectory& directory = job.output();
  const TokenStream probe = ProbeOf(evaluated != nullptr ? *evaluated : calibration.stream);
  pass.checkpoint = model.checkpoint.get();
  pass.family = model.family;
  pass.config = model.config;
  pass.scheme = quantization.scheme;
  pass.calibration = &calibration.stream;
  pass.evaluation = evaluated;
  pass.attribution_windows = request.attribution_windows;
  pass.probe = shape.probe_tokens > 0 ? &probe : nullptr;
  int64_t checkpoint_bytes = 0;
  const auto run = [&](bool measures) {
    OutputCheckpoint output(*model.checkpoint, *model.family, model.config, quantization,
                            output_options, directory.path());
    pass.quantization = quantization;
    pass.output = &output;
    const PassRequest now = measures ? exceptions.MeasuringPass(pass) : pass;
    PassResult result = job.Run(now, progress);
    if (now.output != nullptr) job.Attempt([&] { output.Finish(); });
    checkpoint_bytes = output.total_tensor_bytes();
    return result;
  };
  std::optional<PassResult> last;
  if (request.keep.any() && !job.kept()) {
    PassResult measured = run(true);
    std::optional<KeptGroups> kept;
    try {
      kept = exceptions.Choose(measured);
    } catch (const Error&) {
      job.Abandon();
      throw;
    }
    if (kept) {
      job.WriteWith(*std::move(kept));
    } else {
      last = std::move(measured);
    }
  }
  if (!last) {
    if (job.kept()) quantization.excluded.merge(job.kept()->modules());
    last = run(false);
  }
  const PassResult& result = *last;
  const QuantizedCheckpointDescription description =
      DescribeOutput(*model.family, model.config, quantization);
  const Json config =
      QuantizedConfig(model.checkpoint->config(), *output_options.format, description);

  job.Conclude([&] {
    FillStrategy(request, quantization, description, report);
    FillTensors(result, report);
    const TokenVariety variety = CountVariety(calibration.stream, model.config.vocabulary);
    for (const std::string& warning : QuantizationWarnings(result.layers, variety)) warn(warning);
    if (evaluation) FillEvaluation(request, *evaluation, words, result, report);
    if (request.keep.any()) FillKept(request.keep, job.kept(), result, checkpoint_bytes, report);
    WriteFileAtomically(directory.path() / "config.json", RenderJsonFile(config));
    CopySideFiles(side_files, directory.path());
    report.seconds.calibration = result.calibration_seconds;
    report.seconds.quantization = result.quantization_seconds;
    if (evaluation) report.seconds.evaluation = result.evaluation_seconds;
    report.seconds.total = SecondsSince(start);
    report.peak_rss_bytes = PeakResidentBytes();
    WriteFileAtomically(directory.path() / "narrow-report.json", RenderReportJson(report));
    WriteFileAtomically(directory.path() / "report.html", RenderReportHtml(report));
    WriteFileAtomically(
        directory.path() / "README.md",
        RenderModelCard(report, source_facts, request.output_directory.filename().string()));
  });
  return report;
}

}  // namespace narrow
