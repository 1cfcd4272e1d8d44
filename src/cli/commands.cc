#include "cli/commands.h"

#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/ranks.h"
#include "base/version.h"
#include "cli/arguments.h"
#include "cli/calibrate_kv_command.h"
#include "cli/completion.h"
#include "cli/download_command.h"
#include "cli/evaluate_flags.h"
#include "cli/plan_command.h"
#include "cli/progress_display.h"
#include "cli/quantize_command.h"
#include "cli/standard_output.h"
#include "cli/synthesize_command.h"
#include "import/gguf_import.h"
#include "inspection/inspect.h"
#include "io/json.h"
#include "io/named_file.h"
#include "io/paths.h"
#include "jobs/compare.h"
#include "jobs/job_paths.h"
#include "jobs/model_location.h"
#include "jobs/quantize.h"
#include "text/json_lines.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

constexpr const char* kExitStatuses =
    "Exit status: 0 done, 1 internal error, 2 wrong flag, 3 not found, 4 damaged input,\n"
    "5 not supported, 6 read or write failed, 7 NaN or infinity, 8 memory, 129, 130 and 143\n"
    "stopped by SIGHUP, SIGINT and SIGTERM.";

void PrintLine(const std::string& line) { Print(line + "\n"); }

// Reading what is being written would have no end.
void CheckNotOutput(const std::string& input) {
  struct stat read = {};
  struct stat written = {};
  if (::stat(input.c_str(), &read) == 0 && S_ISREG(read.st_mode) &&
      ::fstat(STDOUT_FILENO, &written) == 0 && read.st_dev == written.st_dev &&
      read.st_ino == written.st_ino) {
    Fail(ErrorCode::kInvalidArgument, "--input_file {} is the standard output too", input);
  }
}

void WriteEvaluation(const EvaluateResult& result, const std::string& path) {
  Json json = Json::object();
  json["perplexity"] = result.perplexity;
  if (result.attention) {
    json["attention"] = AttentionName(*result.attention);
    json["perplexity_bf16_attention"] = nullptr;
    if (result.perplexity_bf16_attention) {
      json["perplexity_bf16_attention"] = *result.perplexity_bf16_attention;
    }
  }
  AddWindows(result, json);
  json["dataset"] = result.dataset;
  json["window_nll"] = result.window_nll;
  json["seconds"] = result.seconds;
  WriteNamedFile(path, json.dump(1) + "\n");
}

struct EvaluateCommandFlags : EvaluateFlags {
  std::string json;
};

// Of several ranks, one checks --json and writes it.
template <typename Request>
bool CheckJson(const EvaluateCommandFlags& flags, const Request& request) {
  if (flags.json.empty() || !JobRanks().leads()) return false;
  CheckApart(std::vector<NamedPath>{{"--json", flags.json}}, ReadPaths(request));
  CheckNamedFile(flags.json, "--json");
  return true;
}

int Evaluate(const EvaluateCommandFlags& flags) {
  if (flags.attribution_windows) {
    Fail(ErrorCode::kInvalidArgument,
         "--attribution_windows is of a comparison: it needs --reference");
  }
  ProgressDisplay progress(ProgressDisplay::StandardError());
  const EvaluateRequest request = MakeEvaluateRequest(flags, progress);
  const bool writes = CheckJson(flags, request);
  const EvaluateResult result = RunEvaluate(request, progress);
  PrintLine(PerplexityLine(result));
  FlushOutput();
  if (writes) WriteEvaluation(result, flags.json);
  return 0;
}

int Compare(const EvaluateCommandFlags& flags, const std::vector<std::string>& command_line) {
  ProgressDisplay progress(ProgressDisplay::StandardError());
  CompareRequest request = MakeCompareRequest(flags, progress);
  request.command_line = command_line;
  request.version = kVersion;
  const bool writes = CheckJson(flags, request);
  const RunReport report = RunCompare(request, progress);
  Print(RenderSummaryTable(report));
  FlushOutput();
  if (writes) WriteNamedFile(flags.json, RenderComparisonJson(report));
  return 0;
}

void AddEvaluateCommand(CLI::App& program, const std::vector<std::string>& command_line,
                        std::function<int()>& run) {
  CLI::App& command = *program.add_subcommand(
      "evaluate",
      "Perplexity of a checkpoint, unquantized or quantized, as it is served; with --reference, "
      "what it lost against the model it was made of");
  const auto flags = std::make_shared<EvaluateCommandFlags>();
  command.add_option("--model_dir", flags->model_dir, "Checkpoint: a directory or org/name")
      ->required();
  command.add_option("--reference", flags->reference,
                     "Compare with the model that the checkpoint was made of, a directory or "
                     "org/name: loss, KL, blame by layer and part");
  command.add_option("--json", flags->json, "Also write the result to this file");
  flags->evaluation.AddTo(command);
  flags->attention.AddTo(command);
  command
      .add_option("--attribution_windows", flags->attribution_windows,
                  fmt::format("With --reference: windows on which the cost of weights, inputs and "
                              "cache is told apart (default: {}; 0: none)",
                              kDefaultAttributionWindows))
      ->check(CLI::Range(int64_t{0}, kMaxWindows));
  flags->memory.AddTo(command);
  command.add_option("--work_dir", flags->work_dir,
                     "Directory for hidden states that do not fit in memory (default: $TMPDIR)");
  flags->compute.AddTo(command);
  command.callback([flags, &command_line, &run] {
    run = [flags, &command_line] {
      return flags->reference.empty() ? Evaluate(*flags) : Compare(*flags, command_line);
    };
  });
}

void AddTokenizeCommand(CLI::App& program, std::function<int()>& run) {
  struct Flags {
    std::string model_dir;
    std::string input_file;
    bool no_special_tokens = false;
  };
  CLI::App& command = *program.add_subcommand("tokenize",
                                              "Print the token ids of each line's \"text\" as a "
                                              "JSON array, which --dataset and --eval_data "
                                              "take as a line of a .jsonl file");
  const auto flags = std::make_shared<Flags>();
  command.add_option("--model_dir", flags->model_dir, "Directory with tokenizer.json, or org/name")
      ->required();
  command.add_option("--input_file", flags->input_file, "JSON lines with a field \"text\"")
      ->required();
  command.add_flag("--no_special_tokens", flags->no_special_tokens,
                   "Leave out what the tokenizer adds (such as the begin-of-text token)");
  command.callback([flags, &run] {
    run = [flags] {
      CheckNotOutput(flags->input_file);
      ProgressDisplay progress(ProgressDisplay::StandardError());
      const Tokenizer tokenizer = Tokenizer::FromDirectory(
          LocateModel(flags->model_dir, ModelPart::kDescription, progress));
      const SpecialTokens special =
          flags->no_special_tokens ? SpecialTokens::kNone : SpecialTokens::kAdd;
      std::ifstream input(flags->input_file, std::ios::binary);
      if (!input) {
        Fail(ErrorCode::kNotFound, "{}: cannot be opened; --input_file names a JSON-lines file",
             flags->input_file);
      }
      std::string line;
      for (int64_t number = 1; std::getline(input, line); ++number) {
        ThrowIfStopRequested("the lines so far are printed");
        const std::string what = fmt::format("{} line {}", flags->input_file, number);
        if (IsWhiteSpace(line)) continue;
        const Json object = ParseJson(line, what);
        const std::vector<int32_t> ids =
            tokenizer.Encode(RequiredString(object, "text", what), special);
        PrintLine(fmt::format("[{}]", fmt::join(ids, ", ")));
      }
      return 0;
    };
  });
}

void AddImportCommand(CLI::App& program, std::function<int()>& run) {
  struct Flags {
    std::string gguf;
    std::string directory;
    std::string pre_tokenizer;
    bool overwrite = false;
  };
  CLI::App& command = *program.add_subcommand(
      "import", "Make a Hugging Face BF16 checkpoint with tokenizer from a GGUF file");
  const auto flags = std::make_shared<Flags>();
  command.add_option("gguf", flags->gguf, "GGUF file, or the first of a split set")->required();
  command.add_option("directory", flags->directory, "Directory to make")->required();
  command.add_option("--pre_tokenizer", flags->pre_tokenizer,
                     "How text is cut into words, in place of what the file says (llama-bpe for "
                     "Llama 3, smollm, ...); files from before April 2024 do not say");
  command.add_flag("--overwrite", flags->overwrite,
                   "Replace an existing directory if narrow made all that is in it");
  command.callback([flags, &run] {
    run = [flags] {
      ProgressDisplay progress(ProgressDisplay::StandardError());
      ImportOptions options;
      if (!flags->pre_tokenizer.empty()) options.pre_tokenizer = flags->pre_tokenizer;
      if (flags->overwrite) options.existing = StagedDirectory::Existing::kReplace;
      const ImportResult result = ImportGguf(flags->gguf, flags->directory, options, progress);
      PrintOfFinished(flags->directory,
                      fmt::format("{}: {} tensors, {:.1f} MB in BF16\n", flags->directory,
                                  result.tensors, static_cast<double>(result.tensor_bytes) / 1e6));
      return 0;
    };
  });
}

void AddInspectCommand(CLI::App& program, std::function<int()>& run) {
  struct Flags {
    std::string directory;
    bool json = false;
    bool headers_only = false;
    bool for_upload = false;
  };
  CLI::App& command = *program.add_subcommand(
      "inspect",
      "List a checkpoint's tensors, scales and sizes, and check it; reads all weights, once");
  const auto flags = std::make_shared<Flags>();
  command.add_option("directory", flags->directory, "Checkpoint directory, or org/name")
      ->required();
  command.add_flag("--json", flags->json, "Print JSON");
  command.add_flag("--headers_only", flags->headers_only,
                   "Read headers and scales alone: quick for large checkpoints, but NaN and "
                   "infinity in the weights are not found");
  command.add_flag("--for_upload", flags->for_upload,
                   "Also say what is missing for an upload to the Hugging Face hub: the card and "
                   "what it names, tokenizer, generation config, files that do not belong there");
  command.callback([flags, &run] {
    run = [flags] {
      ProgressDisplay progress(ProgressDisplay::StandardError());
      InspectOptions options{.progress = &progress, .for_upload = flags->for_upload};
      if (flags->headers_only) options.numbers = InspectOptions::Numbers::kNotRead;
      const InspectionReport report =
          Inspect(LocateModel(flags->directory, ModelPart::kAll, progress), options);
      Print(flags->json ? RenderInspectionJson(report) : RenderInspection(report));
      return report.HasErrors() ? static_cast<int>(ErrorCode::kCorruptInput) : 0;
    };
  });
}

// One line for the user from what CLI11 says.
[[noreturn]] void FailParse(const CLI::ParseError& error) {
  std::string message = error.what();
  std::replace(message.begin(), message.end(), '\n', ' ');
  Fail(ErrorCode::kInvalidArgument, "{} (see narrow --help and narrow COMMAND --help)", message);
}

// CLI11 says of an unknown command only that one is required.
void CheckCommand(const CLI::App& program, const std::vector<std::string>& arguments) {
  if (arguments.size() < 2 || arguments[1].starts_with('-')) return;
  for (const CLI::App* command : program.get_subcommands({})) {
    if (command->check_name(arguments[1])) return;
  }
  Fail(ErrorCode::kInvalidArgument, "there is no command {} (see narrow --help)",
       Quoted(arguments[1]));
}

// What was printed before an error is shown, whatever becomes of the rest.
int RunAndFlush(const std::function<int()>& run) {
  int status = 0;
  try {
    status = run();
  } catch (...) {
    try {
      FlushOutput();
    } catch (const Error&) {  // the first error is the one that is told
    }
    throw;
  }
  FlushOutput();
  return status;
}

}  // namespace

int RunCommandLine(std::vector<std::string> arguments) {
  CLI::App program("narrow: Hugging Face checkpoints to quantized ones on the machine you have",
                   "narrow");
  program.set_version_flag("--version", std::string("narrow ") + kVersion);
  program.require_subcommand(1);
  program.footer(kExitStatuses);
  std::function<int()> run;
  AddQuantizeCommand(program, arguments, run);
  AddPlanCommand(program, run);
  AddDownloadCommand(program, run);
  AddEvaluateCommand(program, arguments, run);
  AddCalibrateKvCommand(program, arguments, run);
  AddTokenizeCommand(program, run);
  AddImportCommand(program, run);
  AddInspectCommand(program, run);
  AddSynthesizeCommand(program, run);
  AddCompletionCommand(program, run);
  CheckCommand(program, arguments);
  try {
    // CLI11 takes the arguments without the program's name, last one first.
    std::vector<std::string> reversed = NormalizeFlags({arguments.begin() + 1, arguments.end()});
    std::reverse(reversed.begin(), reversed.end());
    program.parse(std::move(reversed));
  } catch (const CLI::Success& request) {  // --help, --version
    std::ostringstream text;
    const int status = program.exit(request, text, text);
    Print(text.str());
    FlushOutput();
    return status;
  } catch (const CLI::ParseError& error) {
    FailParse(error);
  }
  return RunAndFlush(run);
}

}  // namespace narrow
