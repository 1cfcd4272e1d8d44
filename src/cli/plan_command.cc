#include "cli/plan_command.h"

#include <cstdio>
#include <memory>
#include <string>

#include "cli/quantize_flags.h"
#include "io/file.h"
#include "pipeline/run_plan.h"

namespace narrow {
namespace {

struct PlanFlags {
  QuantizeFlags job;
  std::string json;
};

int Run(PlanFlags flags) {
  if (flags.job.output_dir.empty()) flags.job.output_dir = "narrow-output";
  CheckQuantizeFlags(flags.job);
  PlanRequest request;
  request.job = MakeQuantizeRequest(flags.job);
  if (flags.job.skip_quantization) request.task = PlanRequest::Task::kEvaluate;
  const JobPlan plan = RunPlan(request);
  if (!flags.json.empty()) WriteFileAtomically(flags.json, PlanJson(plan).dump(1) + "\n");
  const std::string text = RenderPlan(plan);
  std::fputs(text.c_str(), stdout);
  CheckDisks(plan);
  return 0;
}

}  // namespace

void AddPlanCommand(CLI::App& program, std::function<int()>& run) {
  CLI::App& command = *program.add_subcommand(
      "plan",
      "What quantize would take: memory, disk and time. Needs no weights, only config.json");
  const auto flags = std::make_shared<PlanFlags>();
  AddQuantizeFlags(command, flags->job);
  command.add_option("--json", flags->json, "Also write the plan to this file");
  command.callback([flags, &run] { run = [flags] { return Run(*flags); }; });
}

}  // namespace narrow
