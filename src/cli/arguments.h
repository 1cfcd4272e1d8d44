// What flags have in common across the subcommands.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "jobs/quantize.h"
#include "jobs/tokenized_text.h"
#include "model/model_source.h"

namespace narrow {

// Writes underscores for dashes in the names of long flags ("--model-dir=X" -> "--model_dir=X").
std::vector<std::string> NormalizeFlags(std::vector<std::string> arguments);

// "5GB", "500MB", "1.5GiB", "123456": bytes. Throws: kInvalidArgument.
int64_t ParseByteSize(const std::string& text, const std::string& flag);

// Takes finite numbers from `smallest` (`above`: beyond it) to `largest`.
enum class Bound { kFrom, kAbove };
CLI::Validator FiniteNumber(Bound bound, double smallest, double largest);

// Of --eval_windows and its kin: whatever the length of a window, what they need can be counted.
inline constexpr int64_t kMaxWindows = int64_t{1} << 20;

// Flags of everything that evaluates.
struct EvaluationFlags {
  std::string eval_data;
  std::string data_dir;
  int64_t windows = 0;
  int64_t window_tokens = 2048;
  std::string order = "spread";
  std::string window_bos;
  bool no_special_tokens = false;

  void AddTo(CLI::App& command);
  EvaluationOptions Options() const;
  SpecialTokens special_tokens() const {
    return no_special_tokens ? SpecialTokens::kNone : SpecialTokens::kAdd;
  }
};

// Flag of everything that evaluates a network with an FP8 cache.
struct AttentionFlags {
  std::string attention = "both";

  void AddTo(CLI::App& command);
  AttentionFigures Figures() const;
};

// Flags of everything that computes.
struct ComputeFlags {
  std::string data_type = "auto";
  std::string device = "cpu";
  std::string rope_factors;
  int threads = 0;

  void AddTo(CLI::App& command);
  // Sets the number of threads.
  DataType Apply() const;
  RopeFactors RopeFactorsAsked() const;
};

// Resident memory a job may take.
struct MemoryFlags {
  std::string memory_budget;

  void AddTo(CLI::App& command);
  std::optional<int64_t> Budget() const;  // bytes; nothing: the default
};

// "perplexity 12.3456 (3 windows of 2048 tokens of wikitext2)".
std::string PerplexityLine(const EvaluateResult& result);

// A dataset named by --dataset or --eval_data, or nothing.
DatasetRequest MakeDatasetRequest(const std::string& source, const std::string& data_dir);

}  // namespace narrow
