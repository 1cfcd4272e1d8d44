#include "cli/quantize_command.h"

#include <memory>

#include "cli/evaluate_flags.h"
#include "cli/progress_display.h"
#include "cli/quantize_flags.h"
#include "cli/standard_output.h"
#include "jobs/dataset_fetch.h"
#include "jobs/model_location.h"
#include "jobs/quantize.h"
#include "jobs/streamed_model.h"

namespace narrow {
namespace {

int EvaluateOnly(const QuantizeFlags& flags, ProgressSink& progress) {
  const EvaluateRequest request =
      MakeEvaluateRequest({flags.model_dir, flags.work_dir, flags.evaluation, flags.attention,
                           flags.memory, flags.compute},
                          progress);
  const EvaluateResult result = RunEvaluate(request, progress);
  Print(PerplexityLine(result) + "\n");
  return 0;
}

int RunFromWeights(const QuantizeFlags& flags, const std::vector<std::string>& command_line,
                   ProgressSink& progress) {
  DataFreeRequest request = MakeDataFreeRequest(flags);
  request.job.command_line = command_line;
  const auto run = [&] {
    if (const auto limit = StreamLimit(flags)) {
      return RunStreamed(request, flags.model_dir, *limit, progress);
    }
    request.job.model_directory = LocateModel(flags.model_dir, ModelPart::kAll, progress,
                                              [&](const std::filesystem::path& directory) {
                                                request.job.model_directory = directory;
                                                CheckBeforeWeights(request);
                                              });
    return RunDataFree(request, progress);
  };
  const DataFreeResult result = run();
  PrintOfFinished(
      flags.output_dir,
      fmt::format("{}: {} of {} matrices in {} ({}), {:.1f} MB of {:.1f} MB\n", flags.output_dir,
                  result.quantized, result.quantized + result.kept, result.schemes, result.format,
                  static_cast<double>(result.output_bytes) * 1e-6,
                  static_cast<double>(result.source_bytes) * 1e-6));
  return 0;
}

int Run(const QuantizeFlags& flags, const std::vector<std::string>& command_line) {
  CheckQuantizeFlags(flags);
  ProgressDisplay progress(ProgressDisplay::StandardError());
  if (flags.multi_gpu) {
    progress.Info("--multi_gpu: this build uses no GPU; it computes on all CPU cores");
  }
  if (IsDataFree(flags)) return RunFromWeights(flags, command_line, progress);
  if (flags.skip_quantization) return EvaluateOnly(flags, progress);
  QuantizeRequest request = MakeQuantizeRequest(flags);
  request.command_line = command_line;
  FetchDatasets(request, progress);
  if (const auto limit = StreamLimit(flags)) {
    const RunReport report = RunStreamed(request, flags.model_dir, *limit, progress);
    PrintOfFinished(flags.output_dir, RenderSummaryTable(report));
    return 0;
  }
  request.model_directory = LocateModel(flags.model_dir, ModelPart::kAll, progress,
                                        [&](const std::filesystem::path& directory) {
                                          request.model_directory = directory;
                                          CheckBeforeWeights(request);
                                        });
  const RunReport report = RunQuantize(request, progress);
  PrintOfFinished(flags.output_dir, RenderSummaryTable(report));
  return 0;
}

}  // namespace

void AddQuantizeCommand(CLI::App& program, const std::vector<std::string>& command_line,
                        std::function<int()>& run) {
  CLI::App& command =
      *program.add_subcommand("quantize", "Quantize a checkpoint to FP8 and measure what it cost");
  const auto flags = std::make_shared<QuantizeFlags>();
  AddQuantizeFlags(command, *flags);
  command.callback([flags, command_line, &run] {
    run = [flags, command_line] { return Run(*flags, command_line); };
  });
}

}  // namespace narrow
