#include "cli/calibrate_kv_command.h"

#include <memory>

#include "base/version.h"
#include "cli/arguments.h"
#include "cli/progress_display.h"
#include "cli/standard_output.h"
#include "jobs/calibrate_kv.h"
#include "jobs/dataset_fetch.h"
#include "jobs/model_location.h"

namespace narrow {
namespace {

struct Flags {
  std::string model_dir;
  std::string output_dir;
  std::string kv_scales = "tensor";
  bool overwrite = false;
  bool link_weights = false;
  std::string dataset;
  int64_t num_calib_data = 128;
  int64_t seq_len = 512;
  EvaluationFlags evaluation;
  MemoryFlags memory;
  ComputeFlags compute;
};

int Run(const Flags& flags, const std::vector<std::string>& command_line) {
  ProgressDisplay progress(ProgressDisplay::StandardError());
  CalibrateKvRequest request;
  request.output_directory = flags.output_dir;
  if (flags.overwrite) request.existing = StagedDirectory::Existing::kReplace;
  if (flags.kv_scales == "attn_head") request.granularity = CacheTrial::kHeads;
  if (flags.link_weights) request.weights = FileCopy::kLinked;
  request.model_directory = LocateModel(flags.model_dir, ModelPart::kAll, progress);
  request.calibration.dataset = MakeDatasetRequest(flags.dataset, flags.evaluation.data_dir);
  request.calibration.samples = flags.num_calib_data;
  request.calibration.max_tokens = flags.seq_len;
  request.calibration.special_tokens = flags.evaluation.special_tokens();
  request.evaluation = flags.evaluation.Options();
  FetchDataset(request.calibration.dataset, DatasetUse::kCalibration, flags.num_calib_data,
               progress);
  FetchDataset(request.evaluation.dataset, DatasetUse::kEvaluation, 0, progress);
  request.data_type = flags.compute.Apply();
  request.rope_factors = flags.compute.RopeFactorsAsked();
  request.memory_budget_bytes = flags.memory.Budget();
  request.command_line = command_line;
  request.version = kVersion;
  const CalibrateKvResult result = RunCalibrateKv(request, progress);
  std::string text = fmt::format("Cache as it is: perplexity {:.4f}\n", result.original_perplexity);
  for (const MeasuredCache& cache : result.caches) {
    text += fmt::format("FP8 with {}: perplexity {:.4f}, KL {:.6f}\n", Describe(cache.trial),
                        cache.figures.perplexity, cache.figures.kl.mean);
  }
  text += fmt::format("Needed: {}; written: {}\n", Describe(result.needed),
                      Describe(request.granularity));
  PrintOfFinished(flags.output_dir, text);
  return 0;
}

}  // namespace

void AddCalibrateKvCommand(CLI::App& program, const std::vector<std::string>& command_line,
                           std::function<int()>& run) {
  CLI::App& command = *program.add_subcommand(
      "calibrate-kv",
      "Add scales of an FP8 KV cache to a checkpoint, and measure whether it needs them");
  const auto flags = std::make_shared<Flags>();
  command.add_option("--model_dir", flags->model_dir, "Checkpoint: a directory or org/name")
      ->required();
  command.add_option("--output_dir", flags->output_dir, "Directory to make")->required();
  command.add_flag("--overwrite", flags->overwrite,
                   "Replace an existing output directory if narrow made all that is in it");
  command
      .add_option("--kv_scales", flags->kv_scales,
                  "What is written: tensor (default), or attn_head, which few kernels take")
      ->check(CLI::IsMember({"tensor", "attn_head"}));
  command.add_flag("--link_weights", flags->link_weights,
                   "Hard-link the weight files in place of copying them");
  command.add_option("--dataset", flags->dataset, "Calibration text, as of quantize");
  command
      .add_option("--num_calib_data", flags->num_calib_data, "Calibration documents (default: 128)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command.add_option("--seq_len", flags->seq_len, "Tokens a text is cut to (default: 512)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  flags->evaluation.AddTo(command);
  flags->memory.AddTo(command);
  flags->compute.AddTo(command);
  command.callback([flags, command_line, &run] {
    run = [flags, command_line] { return Run(*flags, command_line); };
  });
}

}  // namespace narrow
