#include "cli/plan_command.h"

#include <memory>
#include <string>

#include "cli/progress_display.h"
#include "cli/quantize_flags.h"
#include "cli/standard_output.h"
#include "io/named_file.h"
#include "io/paths.h"
#include "jobs/dataset_fetch.h"
#include "jobs/job_paths.h"
#include "jobs/model_location.h"
#include "jobs/run_plan.h"

namespace narrow {
namespace {

struct PlanFlags {
  QuantizeFlags job;
  std::string json;
};

int Run(PlanFlags flags) {
  const bool named = !flags.job.output_dir.empty() && !flags.job.skip_quantization;
  if (flags.job.output_dir.empty()) flags.job.output_dir = "narrow-output";
  CheckQuantizeFlags(flags.job);
  PlanRequest request;
  request.job = MakeQuantizeRequest(flags.job);
  ProgressDisplay progress(ProgressDisplay::StandardError());
  FetchDatasets(request.job, progress);
  if (IsHubModel(flags.job.model_dir)) {
    request.job.model_directory =
        LocateModel(flags.job.model_dir, ModelPart::kDescription, progress);
  }
  if (flags.job.skip_quantization) request.task = PlanRequest::Task::kEvaluate;
  if (named) CheckPaths(request.job);
  if (!flags.json.empty()) {
    CheckApart(std::vector<NamedPath>{{"--json", flags.json}}, ReadPaths(request.job));
    CheckNamedFile(flags.json, "--json");
  }
  const JobPlan plan = RunPlan(request);
  Print(RenderPlan(plan));
  FlushOutput();
  if (!flags.json.empty()) WriteNamedFile(flags.json, PlanJson(plan).dump(1) + "\n");
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
