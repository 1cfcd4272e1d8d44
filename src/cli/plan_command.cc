#include "cli/plan_command.h"

#include <charconv>
#include <map>
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
#include "jobs/streamed_model.h"

namespace narrow {
namespace {

struct PlanFlags {
  QuantizeFlags job;
  std::string json;
  int64_t ranks = 1;
  std::string network;
};

// Of a model of the hub that can be asked, `job` reads headers over the network; nothing otherwise.
std::optional<DownloadPlan> DescribeFromHub(const QuantizeFlags& flags, QuantizeRequest& job,
                                            ProgressSink& progress) {
  if (!IsHubModel(flags.model_dir) || HubSettingsFromEnvironment().offline) return std::nullopt;
  const HubModel model = OpenHubModel(flags.model_dir, job, progress);
  ReadHeadersFromHub(model, job);
  return PlanDownload(model, job, StreamLimit(flags));
}

// Bytes per second of a network that is told in bits, as they are sold.
double ParseNetwork(const std::string& text) {
  static const std::map<std::string, double> kUnits = {{"Gbit", 1e9}, {"Mbit", 1e6}};
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto unit = kUnits.find(std::string(rest, text.data() + text.size()));
  if (error != std::errc() || unit == kUnits.end() || !(number > 0) || !(number < 1e6)) {
    Fail(ErrorCode::kInvalidArgument,
         "--network {}: expected a rate such as 10Gbit or 500Mbit (a second)", text);
  }
  return number * unit->second / 8;
}

// Sizes are exact; the time is that of reading and writing so many bytes.
int PlanFromWeights(const PlanFlags& flags, bool named) {
  DataFreeRequest request = MakeDataFreeRequest(flags.job);
  ProgressDisplay progress(ProgressDisplay::StandardError());
  const auto download = DescribeFromHub(flags.job, request.job, progress);
  if (!download) {
    request.job.model_directory = LocateModel(flags.job.model_dir, ModelPart::kAll, progress);
  }
  if (named) CheckPaths(request.job);
  if (!flags.json.empty()) {
    CheckApart(std::vector<NamedPath>{{"--json", flags.json}}, ReadPaths(request.job));
    CheckNamedFile(flags.json, "--json");
  }
  const DataFreeResult plan = PlanDataFree(request);
  Print(fmt::format("{} in the format {}, from the weights alone\n", plan.schemes, plan.format));
  for (const std::string& line : plan.choices) Print(line + "\n");
  for (const std::string& line : plan.warnings) Print("Warning: " + line + "\n");
  Print(fmt::format("To read: {:.3f} GB, to write: {:.3f} GB, buffers: {:.0f} MiB\n",
                    static_cast<double>(plan.source_bytes) * 1e-9,
                    static_cast<double>(plan.output_bytes) * 1e-9,
                    static_cast<double>(plan.memory_bytes) / (1 << 20)));
  if (download) Print(DescribeDownload(*download) + "\n");
  FlushOutput();
  if (!flags.json.empty()) {
    Json json = {{"schemes", plan.schemes},           {"format", plan.format},
                 {"quantized", plan.quantized},       {"kept", plan.kept},
                 {"read_bytes", plan.source_bytes},   {"written_bytes", plan.output_bytes},
                 {"memory_bytes", plan.memory_bytes}, {"warnings", plan.warnings}};
    if (download) json["download"] = DownloadJson(*download);
    WriteNamedFile(flags.json, json.dump(1) + "\n");
  }
  return 0;
}

int Run(PlanFlags flags) {
  const bool named = !flags.job.output_dir.empty() && !flags.job.skip_quantization;
  if (flags.job.output_dir.empty()) flags.job.output_dir = "narrow-output";
  CheckQuantizeFlags(flags.job);
  if (IsDataFree(flags.job)) return PlanFromWeights(flags, named);
  PlanRequest request;
  request.job = MakeQuantizeRequest(flags.job);
  ProgressDisplay progress(ProgressDisplay::StandardError());
  FetchDatasets(request.job, progress);
  request.download = DescribeFromHub(flags.job, request.job, progress);
  if (!request.download) {
    request.job.model_directory =
        LocateModel(flags.job.model_dir, ModelPart::kDescription, progress);
  }
  if (flags.job.skip_quantization) request.task = PlanRequest::Task::kEvaluate;
  if (named) CheckPaths(request.job);
  if (!flags.json.empty()) {
    CheckApart(std::vector<NamedPath>{{"--json", flags.json}}, ReadPaths(request.job));
    CheckNamedFile(flags.json, "--json");
  }
  request.ranks = flags.ranks;
  if (!flags.network.empty()) request.network = ParseNetwork(flags.network);
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
      "What quantize would take: memory, disk and time. Needs no weights, only config.json (with "
      "--skip_calibration their headers, too)");
  const auto flags = std::make_shared<PlanFlags>();
  AddQuantizeFlags(command, flags->job);
  command.add_option("--json", flags->json, "Also write the plan to this file");
  command
      .add_option(
          "--ranks", flags->ranks,
          "Plan for so many ranks of narrow-mpi, each on a machine like this one (default: 1)")
      ->check(CLI::Range(1, 65536));
  command.add_option("--network", flags->network,
                     "What the machines exchange a second, such as 10Gbit; with --ranks");
  command.callback([flags, &run] { run = [flags] { return Run(*flags); }; });
}

}  // namespace narrow
