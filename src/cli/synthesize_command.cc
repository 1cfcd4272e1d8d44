#include "cli/synthesize_command.h"

#include <memory>
#include <string>

#include "base/error.h"
#include "base/parallel.h"
#include "cli/arguments.h"
#include "cli/progress_display.h"
#include "cli/standard_output.h"
#include "synthesis/checkpoint.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

struct SynthesizeFlags {
  std::string directory;
  std::string config;
  std::string preset;
  std::string tokenizer_dir;
  std::string max_shard_size = "5GB";
  int64_t layers = 0;
  uint64_t seed = 0;
  int threads = 0;
  bool overwrite = false;
};

std::string PresetHelp() {
  std::string text = "Shape of a known model:";
  std::string_view separator = " ";
  for (const ModelPreset& preset : ModelPresets()) {
    text += fmt::format("{}{} ({})", separator, preset.name, preset.description);
    separator = ", ";
  }
  return text;
}

int Run(const SynthesizeFlags& flags) {
  if (flags.config.empty() == flags.preset.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "give either --config or --preset: they say which shape the checkpoint has");
  }
  SynthesizeRequest request;
  request.output_directory = flags.directory;
  if (flags.overwrite) request.existing = StagedDirectory::Existing::kReplace;
  request.config = flags.preset.empty() ? ReadJsonFile(flags.config) : PresetConfig(flags.preset);
  request.config_file = flags.config;
  request.config_name = flags.preset.empty() ? flags.config : "preset " + flags.preset;
  request.layers = flags.layers;
  request.seed = flags.seed;
  if (!flags.tokenizer_dir.empty()) request.tokenizer_directory = flags.tokenizer_dir;
  request.max_shard_bytes = ParseByteSize(flags.max_shard_size, "--max_shard_size");
  SetThreadCount(flags.threads);
  ProgressDisplay progress(ProgressDisplay::StandardError());
  const SynthesizeResult result = RunSynthesize(request, progress);
  const std::string line =
      fmt::format("{}: {} layers, {} tensors, {:.1f} MB of random weights\n", flags.directory,
                  result.layers, result.tensors, static_cast<double>(result.tensor_bytes) / 1e6);
  PrintOfFinished(flags.directory, line);
  return 0;
}

}  // namespace

void AddSynthesizeCommand(CLI::App& program, std::function<int()>& run) {
  CLI::App& command = *program.add_subcommand(
      "synthesize", "Make a checkpoint of a model's shape with random weights, to try out sizes");
  const auto flags = std::make_shared<SynthesizeFlags>();
  command.add_option("directory", flags->directory, "Directory to make")->required();
  command.add_option("--config", flags->config, "config.json that gives the shape");
  command.add_option("--preset", flags->preset, PresetHelp());
  command
      .add_option("--layers", flags->layers, "Decoder layers (default: as many as the model has)")
      ->check(CLI::Range(int64_t{1}, int64_t{4096}));
  command.add_option("--seed", flags->seed, "Other weights for another number (default: 0)");
  command.add_option("--tokenizer_dir", flags->tokenizer_dir,
                     "Copy the tokenizer from here (default: one token for each byte)");
  command.add_option("--max_shard_size", flags->max_shard_size,
                     "Largest weight file (default: 5GB)");
  command.add_option("--threads", flags->threads, "Threads (default: one per core)")
      ->check(CLI::Range(0, 4096));
  command.add_flag("--overwrite", flags->overwrite,
                   "Replace an existing directory if narrow made all that is in it");
  command.callback([flags, &run] { run = [flags] { return Run(*flags); }; });
}

}  // namespace narrow
