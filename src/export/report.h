// What a run did and measured, and its three renderings: the machine-readable report, the closing
// table of the terminal, and the model card. A figure that was not measured is absent everywhere.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "export/description.h"
#include "export/source_facts.h"

namespace narrow {

struct RunReport {
  struct Strategy {
    std::string scheme;         // "w_fp8_a_fp8"
    std::string export_format;  // "fp8", "quark"
    KvCacheQuantization kv_cache = KvCacheQuantization::kNone;
    double min_kv_scale = 0.0;
    std::optional<WeightMergeGroups> weight_merge_groups;
    std::vector<std::string> excluded_linears;  // full module names
  };
  struct Calibration {
    std::string dataset;  // name or path
    int64_t samples = 0;
    int64_t tokens = 0;
    std::optional<std::string> notice;  // one sentence: why this data set, what to expect of it
  };
  struct Perplexity {
    std::optional<double> original;
    std::optional<double> quantized;
  };
  struct WindowNll {  // mean natural-log loss of each window, in window order
    std::vector<double> original;
    std::vector<double> quantized;
  };
  struct Evaluation {
    std::string dataset;
    int64_t windows = 0;
    int64_t window_tokens = 0;
    int64_t tokens = 0;  // in all windows together
    Perplexity perplexity;
    WindowNll window_nll;
    std::optional<std::string> notice;
  };
  struct Seconds {
    double total = 0;
    std::optional<double> calibration;
    std::optional<double> quantization;
    std::optional<double> evaluation;
  };
  struct Compute {
    int64_t threads = 0;
    std::string dtype;    // of the matrix products: "bfloat16", "float32"
    std::string cpu_isa;  // as the kernels found it
  };
  struct Range {
    float amax = 0;
    float scale = 0;  // multiply to dequantize
  };
  struct WeightRecord {
    std::string name;  // of the tensor: "model.layers.0.self_attn.q_proj.weight"
    Range range;
    int64_t saturated = 0;  // elements beyond +-448 scales before rounding
    int64_t elements = 0;
  };
  struct InputRecord {
    std::string name;  // of the linear
    Range range;
  };
  struct KvCacheRecord {
    std::string name;  // of the attention module
    Range key;         // after RoPE
    Range value;
  };

  std::vector<std::string> command_line;  // argv
  std::string version;                    // of this program
  std::string model;                      // name of the base model
  std::optional<Strategy> strategy;       // nothing: not quantized
  std::optional<Calibration> calibration;
  std::optional<Evaluation> evaluation;
  Seconds seconds;
  int64_t peak_rss_bytes = 0;
  Compute compute;
  std::vector<std::string> warnings;
  std::vector<WeightRecord> weights;
  std::vector<InputRecord> inputs;
  std::vector<KvCacheRecord> kv_cache;
};

// narrow-report.json. Members that were not measured are null; so are numbers that are not finite.
std::string RenderReportJson(const RunReport& report);

// The closing table: lines of printable text that end in a newline.
std::string RenderSummaryTable(const RunReport& report);

// README.md of the output directory. `output_name` is what the deployment line loads.
// REQUIRES: report.strategy.
std::string RenderModelCard(const RunReport& report, const SourceFacts& source,
                            const std::string& output_name);

// "FP8 E4M3 weights and inputs (w_fp8_a_fp8), FP8 KV cache"; "not quantized".
std::string DescribeStrategy(const RunReport& report);
// "wikitext2, 8 windows of 2048 tokens".
std::string DescribeEvaluation(const RunReport::Evaluation& evaluation);

}  // namespace narrow
