#include "cli/arguments.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/parallel.h"
#include "base/ranks.h"

namespace narrow {
namespace {

// 0: one for every core. Where mpirun has not given the ranks of a host cores of their own, each
// takes its share of them.
int ThreadsOfRank() {
  const int ranks = JobRanks().on_this_host();
  cpu_set_t allowed;
  if (ranks == 1 || ::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 0;
  const int cores = CPU_COUNT(&allowed);
  return cores < ::sysconf(_SC_NPROCESSORS_ONLN) ? 0 : std::max(1, cores / ranks);
}

}  // namespace

std::vector<std::string> NormalizeFlags(std::vector<std::string> arguments) {
  for (std::string& argument : arguments) {
    if (!argument.starts_with("--")) continue;
    const std::size_t end = std::min(argument.find('='), argument.size());
    std::replace(argument.begin() + std::min<std::ptrdiff_t>(2, static_cast<std::ptrdiff_t>(end)),
                 argument.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
  }
  return arguments;
}

int64_t ParseByteSize(const std::string& text, const std::string& flag) {
  static const std::map<std::string, double> kUnits = {
      {"", 1.0},     {"B", 1.0},      {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},
      {"TB", 1e12},  {"KIB", 0x1p10}, {"MIB", 0x1p20}, {"GIB", 0x1p30}, {"TIB", 0x1p40},
      {"K", 0x1p10}, {"M", 0x1p20},   {"G", 0x1p30},   {"T", 0x1p40}};
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit(rest, text.data() + text.size());
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  const auto found = kUnits.find(unit);
  if (error != std::errc() || found == kUnits.end() || !(number * found->second >= 1.0) ||
      !(number * found->second < 0x1p62)) {
    Fail(ErrorCode::kInvalidArgument, "{} {}: expected a size such as 500MB, 5GB or 12GiB", flag,
         text);
  }
  return static_cast<int64_t>(number * found->second);
}

CLI::Validator FiniteNumber(Bound bound, double smallest, double largest) {
  const auto check = [=](const std::string& text) -> std::string {
    double value = 0;
    const bool number = CLI::detail::lexical_cast(text, value);
    const bool inside = bound == Bound::kFrom ? value >= smallest : value > smallest;
    if (number && inside && value <= largest) return {};
    return fmt::format("{}: expected a number {} {:g} {} {:g}", text,
                       bound == Bound::kFrom ? "from" : "above", smallest,
                       bound == Bound::kFrom ? "to" : "and at most", largest);
  };
  return {check, "FLOAT"};
}

void EvaluationFlags::AddTo(CLI::App& command) {
  command.add_option(
      "--eval_data", eval_data,
      "Evaluation text: a path (.txt, .raw, .jsonl, .jsonl.zst, .parquet), wikitext2, pileval, "
      "builtin, or org/name:config:split:column of the hub (default: wikitext2 if it is there, "
      "else builtin); JSON lines with \"tokens\" are "
      "windows of ids");
  command.add_option("--data_dir", data_dir,
                     "Where named texts are (default: $NARROW_DATA_DIR, else the user's cache)");
  command.add_option("--eval_windows", windows, "Windows to evaluate; 0 means all (default: 0)")
      ->check(CLI::Range(int64_t{0}, kMaxWindows));
  command
      .add_option("--window_tokens", window_tokens, "Tokens of a window of text (default: 2048)")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 20));
  command
      .add_option("--eval_window_order", order,
                  "spread: evenly over the text (default); first: from its beginning")
      ->check(CLI::IsMember({"spread", "first"}));
  command
      .add_option("--window_bos", window_bos,
                  "always: every window of text begins with the begin-of-text token and has one "
                  "token of the text less; never: windows are cut as the text comes (default: what "
                  "the model's family needs)")
      ->check(CLI::IsMember({"always", "never"}));
  command.add_flag("--no_special_tokens", no_special_tokens,
                   "Add no begin-of-text or other special token to texts: they hold their own, as "
                   "chat templates write them");
}

EvaluationOptions EvaluationFlags::Options() const {
  EvaluationOptions options;
  options.dataset = MakeDatasetRequest(eval_data, data_dir);
  options.windows = windows;
  options.window_tokens = window_tokens;
  options.special_tokens = special_tokens();
  if (window_bos == "always") options.start = WindowStart::kBeginOfText;
  if (window_bos == "never") options.start = WindowStart::kText;
  options.choice = order == "first" ? WindowChoice::kFirst : WindowChoice::kSpread;
  return options;
}

void ComputeFlags::AddTo(CLI::App& command) {
  command
      .add_option("--data_type", data_type,
                  "Type of the matrix products: auto (bfloat16 where the CPU has it), bfloat16, "
                  "float32; float16 is refused")
      ->check(CLI::IsMember({"auto", "bfloat16", "float16", "float32"}));
  command
      .add_option("--rope_factors", rope_factors,
                  "Factors of a longrope model, in every text: short or long (default: what vLLM "
                  "serves, long where max_position_embeddings exceeds the original length)")
      ->check(CLI::IsMember({"short", "long"}));
  command.add_option("--device", device, "cpu is the only device of this build");
  command.add_option("--threads", threads, "Threads; 0 means one per core (default: 0)")
      ->check(CLI::Range(0, 4096));
}

DataType ComputeFlags::Apply() const {
  if (device != "cpu") {
    Fail(ErrorCode::kUnsupported, "--device {}: this build computes on the CPU; use --device cpu",
         device);
  }
  if (data_type == "float16") {
    Fail(ErrorCode::kUnsupported,
         "--data_type float16: CPUs have no fast float16 products; use auto, bfloat16 or float32");
  }
  SetThreadCount(threads != 0 ? threads : ThreadsOfRank());
  if (data_type == "bfloat16") return DataType::kBfloat16;
  if (data_type == "float32") return DataType::kFloat32;
  return DataType::kAuto;
}

void AttentionFlags::AddTo(CLI::App& command) {
  command
      .add_option("--attention", attention,
                  "Attention over an FP8 cache as the evaluation has it: fp8 (queries and "
                  "probabilities in FP8, too, as on most GPUs), bf16 (the cache dequantized, as on "
                  "CPUs), or both, of which fp8 is the figure that counts (default: both)")
      ->check(CLI::IsMember({"fp8", "bf16", "both"}));
}

AttentionFigures AttentionFlags::Figures() const {
  if (attention == "fp8") return AttentionFigures::kFloat8;
  return attention == "bf16" ? AttentionFigures::kDequantized : AttentionFigures::kBoth;
}

RopeFactors ComputeFlags::RopeFactorsAsked() const {
  if (rope_factors == "short") return RopeFactors::kShort;
  return rope_factors == "long" ? RopeFactors::kLong : RopeFactors::kServed;
}

void MemoryFlags::AddTo(CLI::App& command) {
  command.add_option("--memory_budget", memory_budget,
                     "Resident memory to stay under (12GiB); default: 80 % of what is free");
}

std::optional<int64_t> MemoryFlags::Budget() const {
  if (memory_budget.empty()) return std::nullopt;
  return ParseByteSize(memory_budget, "--memory_budget");
}

std::string PerplexityLine(const EvaluateResult& result) {
  const std::string shortest = result.shortest_window_tokens < result.window_tokens
                                   ? fmt::format("{} to ", result.shortest_window_tokens)
                                   : "";
  std::string line = fmt::format("perplexity {:.4f} ({} windows of {}{} tokens of {}{})",
                                 result.perplexity, result.windows, shortest, result.window_tokens,
                                 result.dataset, result.window_bos ? ", begin of text first" : "");
  if (!result.attention) return line;
  if (*result.attention == AttentionFigures::kDequantized) {
    return line + "; attention over the dequantized cache";
  }
  line += "; attention in FP8";
  if (!result.perplexity_bf16_attention) return line;
  return line +
         fmt::format(", over the dequantized cache {:.4f}", *result.perplexity_bf16_attention);
}

DatasetRequest MakeDatasetRequest(const std::string& source, const std::string& data_dir) {
  DatasetRequest request;
  if (!source.empty()) request.source = source;
  if (!data_dir.empty()) request.data_directory = data_dir;
  return request;
}

}  // namespace narrow
