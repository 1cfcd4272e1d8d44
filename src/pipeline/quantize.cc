#include "pipeline/quantize.h"

#include <fnmatch.h>

#include <chrono>
#include <map>

#include "base/memory_use.h"
#include "base/parallel.h"
#include "evaluation/perplexity.h"
#include "export/config.h"
#include "export/side_files.h"
#include "pipeline/output_checkpoint.h"
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
  options.excluded = MatchExcluded(*model.family, model.config, request.exclude_patterns);
  return options;
}

void FillStrategy(const QuantizeRequest& request, const QuantizedCheckpointDescription& description,
                  RunReport& report) {
  RunReport::Strategy& strategy = report.strategy.emplace();
  strategy.scheme = request.scheme;
  strategy.export_format = request.export_format;
  strategy.kv_cache = description.kv_cache;
  strategy.min_kv_scale = description.min_kv_scale;
  strategy.weight_merge_groups = description.weight_merge_groups;
  strategy.excluded_linears = description.excluded_linears;
}

void FillCalibration(const TokenizedText& text, RunReport& report) {
  report.calibration =
      RunReport::Calibration{text.dataset, static_cast<int64_t>(text.stream.sequences.size()),
                             text.stream.size(), text.notice};
}

void FillEvaluation(const QuantizeRequest& request, const TokenizedText& text,
                    const PassResult& result, RunReport& report) {
  RunReport::Evaluation& evaluation = report.evaluation.emplace();
  evaluation.dataset = text.dataset;
  evaluation.windows = static_cast<int64_t>(text.stream.sequences.size());
  evaluation.window_tokens = request.evaluation->window_tokens;
  evaluation.tokens = text.stream.size();
  evaluation.perplexity = {Perplexity(result.stored_window_nll),
                           Perplexity(result.deployed_window_nll)};
  evaluation.window_nll = {result.stored_window_nll, result.deployed_window_nll};
  evaluation.notice = text.notice;
}

void FillTensors(const PassResult& result, RunReport& report) {
  for (const LayerFacts& layer : result.layers) {
    for (const LinearFacts& linear : layer.linears) {
      report.weights.push_back({linear.module + ".weight",
                                {linear.weight_amax, linear.weight_scale},
                                linear.saturated,
                                linear.elements});
      report.inputs.push_back({linear.module, {linear.input_amax, linear.input_scale}});
    }
    if (layer.cache) {
      report.kv_cache.push_back({layer.cache->attention_module,
                                 {layer.cache->key_amax, layer.cache->key_scale},
                                 {layer.cache->value_amax, layer.cache->value_scale}});
    }
  }
}

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
  const LayerQuantizationOptions quantization = QuantizationOptions(request, model);
  const OutputOptions output_options = {&FindExportFormat(request.export_format),
                                        request.max_shard_bytes};
  const QuantizedCheckpointDescription description =
      DescribeOutput(*model.family, model.config, quantization);
  const Json config =
      QuantizedConfig(model.checkpoint->config(), *output_options.format, description);
  const SideFilePlan side_files = PlanSideFiles(request.model_directory);
  for (const std::string& warning : side_files.warnings) warn(warning);
  FillStrategy(request, description, report);

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

  StagedDirectory directory(request.output_directory, request.existing);
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
  const PassResult result = RunStreamingPass(pass, progress);
  output.Finish();

  FillTensors(result, report);
  if (evaluation) FillEvaluation(request, *evaluation, result, report);
  WriteFileAtomically(directory.path() / "config.json", RenderJsonFile(config));
  CopySideFiles(side_files, directory.path());
  report.seconds.calibration = result.calibration_seconds;
  report.seconds.quantization = result.quantization_seconds;
  if (evaluation) report.seconds.evaluation = result.evaluation_seconds;
  report.seconds.total = SecondsSince(start);
  report.peak_rss_bytes = PeakResidentBytes();
  WriteFileAtomically(directory.path() / "narrow-report.json", RenderReportJson(report));
  WriteFileAtomically(
      directory.path() / "README.md",
      RenderModelCard(report, source_facts, request.output_directory.filename().string()));
  directory.Commit();
  return report;
}

}  // namespace narrow
