#include "cli/quantize_command.h"

#include <memory>

#include "base/ranks.h"
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
  const DataFreeResult result = RunDataFree(request, flags.model_dir, StreamLimit(flags), progress);
  PrintOfFinished(flags.output_dir, fmt::format("{}: {}", flags.output_dir, Summary(result)));
  return 0;
}

int Run(const QuantizeFlags& flags, const std::vector<std::string>& command_line) {
  CheckQuantizeFlags(flags);
  ProgressDisplay progress(ProgressDisplay::StandardError());
  if (flags.multi_gpu) {
    progress.Info(
        "--multi_gpu: this build uses no GPU; it computes on all CPU cores, and with mpirun -n "
        "RANKS "
        "narrow-mpi quantize ... on those of several machines");
  }
  if (JobRanks().count() > 1 && (IsDataFree(flags) || StreamLimit(flags))) {
    Fail(ErrorCode::kUnsupported, "{} is not divided over ranks; run narrow, or leave it out",
         IsDataFree(flags) ? "--skip_calibration" : "--stream");
  }
  if (IsDataFree(flags)) return RunFromWeights(flags, command_line, progress);
  if (flags.skip_quantization) return EvaluateOnly(flags, progress);
  QuantizeRequest request = MakeQuantizeRequest(flags);
  request.command_line = command_line;
  JobRanks().FirstOnHost([&] { FetchDatasets(request, progress); });
  const RunReport report = RunQuantize(request, flags.model_dir, StreamLimit(flags), progress);
  if (JobRanks().leads()) PrintOfFinished(flags.output_dir, RenderSummaryTable(report));
  return 0;
}

}  // namespace

void AddQuantizeCommand(CLI::App& program, const std::vector<std::string>& command_line,
                        std::function<int()>& run) {
  CLI::App& command = *program.add_subcommand(
      "quantize", "Quantize a checkpoint, to FP8 unless asked otherwise, and measure what it cost");
  const auto flags = std::make_shared<QuantizeFlags>();
  AddQuantizeFlags(command, *flags);
  command.callback([flags, command_line, &run] {
    run = [flags, command_line] { return Run(*flags, command_line); };
  });
}

}  // namespace narrow
