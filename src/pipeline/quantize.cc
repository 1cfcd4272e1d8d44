#include "pipeline/quantize.h"

#include <fnmatch.h>

#include <chrono>
#include <functional>
#include <map>

#include "base/memory_use.h"
#include "base/parallel.h"
#include "evaluation/perplexity.h"
#include "export/config.h"
#include "export/report_html.h"
#include "export/side_files.h"
#include "pipeline/guards.h"
#include "pipeline/memory_plan.h"
#include "pipeline/output_checkpoint.h"
#include "pipeline/run_log.h"
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
  fingerprint["--custom_mode"] = request.export_format;
  fingerprint["--max_shard_size"] = fmt::format("{}", request.max_shard_bytes);
  fingerprint["--quant_algo"] =
      request.rounding == RoundingAlgorithm::kCompensated ? "gptq" : "none";
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
    fingerprint["evaluation windows"] = fmt::format("{}", evaluation->sequences.size());
  }
  return fingerprint;
}

// The directories of a run that can be continued.
class Job {
 public:
  Job(const QuantizeRequest& request, Fingerprint fingerprint)
      : request_(request),
        fingerprint_(std::move(fingerprint)),
        work_(request.work_directory.value_or(Beside(request.output_directory, ".narrow-work"))),
        output_(request.output_directory, request.existing,
                Beside(request.output_directory, ".partial")) {
    if (request.resume == QuantizeRequest::Resume::kAuto) {
      output_.KeepOnFailure();  // a state of another job is refused, not thrown away
      state_ = LoadRunState(work_.state_path(), fingerprint_);
      output_.RemoveOnFailure();
    }
    if (state_) return;
    work_.Clear();
    for (const auto& entry : std::filesystem::directory_iterator(output_.path())) {
      std::filesystem::remove_all(entry.path());
    }
  }
  ~Job() {
    if (!kept_) work_.Remove();
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  StagedDirectory& output() { return output_; }

  PassResult Run(PassRequest& pass, ProgressSink& display) {
    RunLog progress(work_.log_path(), display);
    progress.Line(
        fmt::format("narrow {} {}", request_.version, fmt::join(request_.command_line, " ")));
    pass.work_directory = work_.path();
    pass.save_interval_seconds = request_.save_interval_seconds;
    pass.save = [this](RunState state) {
      state.fingerprint = fingerprint_;
      SaveRunState(work_.state_path(), state);
      saved_ = true;
    };
    if (state_) {
      pass.resume = &*state_;
      saved_ = true;
      progress.Info(fmt::format("Continuing after layer {} of {}, saved in {}", state_->layers_done,
                                pass.config.layers, work_.path().string()));
    }
    try {
      PassResult result = RunStreamingPass(pass, progress);
      if (saved_)
        Keep();  // until Commit: what is left to write may fail for a reason that goes away
      return result;
    } catch (const Error& error) {
      progress.Line(error.what());
      Rethrow(error);
    } catch (const std::bad_alloc&) {
      if (saved_) Keep();
      throw;
    }
  }

  // Does what is left to write after the pass, and puts the output in place.
  void Conclude(const std::function<void()>& write) {
    try {
      write();
      output_.Commit();
    } catch (const Error& error) {
      Rethrow(error);
    }
    kept_ = false;
  }

 private:
  // Says of a cause that goes away how to go on.
  [[noreturn]] void Rethrow(const Error& error) {
    if (!CanContinue(error.code())) throw error;
    Keep();
    throw Error(error.code(),
                fmt::format("{} (finished layers are saved in {}: the same command continues)",
                            error.what(), work_.path().string()));
  }

  void Keep() {
    output_.KeepOnFailure();
    kept_ = true;
  }

  static std::filesystem::path Beside(const std::filesystem::path& output, const char* suffix) {
    std::filesystem::path path = std::filesystem::absolute(output).lexically_normal();
    if (!path.has_filename()) path = path.parent_path();
    return path.parent_path() / ("." + path.filename().string() + suffix);
  }

  // Damaged input stays damaged; a full disk or a signal goes away.
  bool CanContinue(ErrorCode code) const {
    return saved_ && (code == ErrorCode::kIo || code == ErrorCode::kInterrupted ||
                      code == ErrorCode::kTerminated || code == ErrorCode::kMemoryBudget ||
                      code == ErrorCode::kNotFound);
  }

  const QuantizeRequest& request_;
  Fingerprint fingerprint_;
  WorkDirectory work_;
  StagedDirectory output_;
  std::optional<RunState> state_;
  bool saved_ = false;
  bool kept_ = false;
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
  const ModelSource model = OpenModel(request.model_directory, WeightState::kOriginal);
  const SourceFacts source_facts = ReadSourceFacts(request.model_directory);
  report.model = source_facts.name;
  LayerQuantizationOptions quantization = QuantizationOptions(request, model);
  const OutputOptions output_options = {&FindExportFormat(request.export_format),
                                        request.max_shard_bytes};
  const QuantizedCheckpointDescription description =
      DescribeOutput(*model.family, model.config, quantization);
  const Json config =
      QuantizedConfig(model.checkpoint->config(), *output_options.format, description);
  const SideFilePlan side_files = PlanSideFiles(request.model_directory);
  for (const std::string& warning : side_files.warnings) warn(warning);

  PassRequest pass;
  pass.compute = ChooseComputeType(request.data_type);
  report.compute = {ThreadCount(), pass.compute == ComputeType::kBfloat16 ? "bfloat16" : "float32",
                    InstructionSetName()};
  const Tokenizer tokenizer = Tokenizer::FromDirectory(request.model_directory.string());
  const TokenizedText calibration =
      TokenizeCalibration(request.calibration, tokenizer, model.config.vocabulary);
  if (calibration.notice) warn(*calibration.notice);
  FillCalibration(calibration, report);
  std::optional<TokenizedText> evaluation;
  if (request.evaluation) {
    evaluation = TokenizeEvaluation(*request.evaluation, tokenizer, model.config.vocabulary);
    if (evaluation->notice) warn(*evaluation->notice);
  }

  StagedDirectory::CheckFinalPath(request.output_directory, request.existing);
  const JobShape shape = ShapeOf(model, pass.compute, &quantization, &calibration.stream,
                                 evaluation ? &evaluation->stream : nullptr);
  const JobPlan plan =
      PlanBeforeWork(request, model, quantization.excluded, shape, calibration.stream,
                     evaluation ? &evaluation->stream : nullptr);
  pass.plan = plan.memory.plan;
  quantization.hessian_block_columns = plan.memory.hessian_block_columns;
  for (const std::string& line : ShortPlan(plan)) progress.Info(line);
  // Nothing before this line writes; nothing after it can be refused for what the user asked.
  Job job(request, JobFingerprint(request, model, pass.compute, quantization, calibration.stream,
                                  evaluation ? &evaluation->stream : nullptr));
  StagedDirectory& directory = job.output();
  OutputCheckpoint output(*model.checkpoint, *model.family, model.config, quantization,
                          output_options, directory.path());
  pass.checkpoint = model.checkpoint.get();
  pass.family = model.family;
  pass.config = model.config;
  pass.scheme = quantization.scheme;
  pass.calibration = &calibration.stream;
  pass.evaluation = evaluation ? &evaluation->stream : nullptr;
  pass.quantization = quantization;
  pass.output = &output;
  const PassResult result = job.Run(pass, progress);
  job.Conclude([&] {
    output.Finish();

    FillStrategy(request, quantization, description, report);
    FillTensors(result, report);
    const TokenVariety variety = CountVariety(calibration.stream, model.config.vocabulary);
    for (const std::string& warning : QuantizationWarnings(result.layers, variety)) warn(warning);
    if (evaluation) FillEvaluation(request, *evaluation, tokenizer, result, report);
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
