#include "cli/quantize_command.h"

#include <cstdio>
#include <memory>

#include "cli/progress_display.h"
#include "cli/quantize_flags.h"
#include "pipeline/quantize.h"

namespace narrow {
namespace {

int EvaluateOnly(const QuantizeFlags& flags, ProgressSink& progress) {
  EvaluateRequest request;
  request.model_directory = flags.model_dir;
  request.evaluation = flags.evaluation.Options();
  request.data_type = flags.compute.Apply();
  request.memory_budget_bytes = flags.memory.Budget();
  if (!flags.work_dir.empty()) request.work_directory = flags.work_dir;
  const EvaluateResult result = RunEvaluate(request, progress);
  std::printf("perplexity %.4f (%lld windows of %lld tokens of %s)\n", result.perplexity,
              static_cast<long long>(result.windows), static_cast<long long>(result.window_tokens),
              result.dataset.c_str());
  return 0;
}

int Run(const QuantizeFlags& flags, const std::vector<std::string>& command_line) {
  CheckQuantizeFlags(flags);
  ProgressDisplay progress(ProgressDisplay::StandardError());
  if (flags.multi_gpu) {
    progress.Info("--multi_gpu: this build uses no GPU; it computes on all CPU cores");
  }
  if (flags.skip_quantization) return EvaluateOnly(flags, progress);
  QuantizeRequest request = MakeQuantizeRequest(flags);
  request.command_line = command_line;
  const RunReport report = RunQuantize(request, progress);
  const std::string table = RenderSummaryTable(report);
  std::fputs(table.c_str(), stdout);
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
