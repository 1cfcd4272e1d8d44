// What a run did and measured, and its renderings: the machine-readable report, the closing table
// of the terminal, the model card, and the page of report_html.h. A figure that was not measured is
// absent everywhere.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/description.h"
#include "io/traffic.h"
#include "report/source_facts.h"

namespace narrow {

struct RunReport {
  struct Strategy {
    std::string scheme;         // "w_fp8_a_fp8"
    std::string export_format;  // "fp8", "quark"
    KvCacheQuantization kv_cache = KvCacheQuantization::kNone;
    double min_kv_scale = 0.0;
    std::optional<WeightMergeGroups> weight_merge_groups;
    std::vector<std::string> excluded_linears;  // full module names
    std::string rounding = "none";              // as --quant_algo takes it: "gptq", "none"
    // Widest block of the second-order statistics of compensated rounding; 0: no limit.
    int64_t hessian_block_columns = 0;
    std::string head_basis = "none";  // as --head_basis takes it: "fitted", "none"
  };
  struct Calibration {
    std::string dataset;  // name or path
    int64_t samples = 0;
    int64_t tokens = 0;
    std::optional<std::string> notice;  // one sentence: why this data set, what to expect of it
    int64_t samples_asked = 0;
    int64_t empty_documents = 0;  // that were passed over
  };
  struct Estimate {
    double mean = 0;
    std::optional<double> standard_error;  // none for a single window
  };
  // A quantized network beside the original; see DivergenceSummary in evaluation/divergence.h.
  struct Divergence {
    double perplexity = 0;
    std::vector<double> window_nll;  // mean natural-log loss of each window, in window order
    Estimate nll_increase;           // nats per token
    Estimate perplexity_change;      // relative to the original: 0.05 is 5 %
    Estimate kl;                     // nats per token
    double kl_median = 0;
    double kl_99 = 0;
    double kl_999 = 0;
    double kl_maximum = 0;
    Estimate top1_agreement;  // shares of tokens, 0 to 1
    Estimate top1_in_top5;
    Estimate top5_overlap;
    Estimate probability_change;  // of the right token
    double probability_change_rms = 0;
    std::string verdict;  // one sentence
  };
  // A token that the deployed network predicts worse than the original does.
  struct WorstToken {
    int64_t window = 0;    // index in the evaluated windows
    int64_t position = 0;  // of the token in its window, from 0
    std::string token;     // text in valid UTF-8
    std::string context;   // the text just before it
    double nll_increase = 0;
    double kl = 0;
  };
  // What the quantization of one more part costs, over the windows of the attribution.
  struct PartCost {
    std::string part;       // "weights", "inputs", "kv_cache"
    Estimate kl;            // nats per token, of the network with this part and those before it
    Estimate kl_added;      // over the network without this part
    Estimate nll_increase;  // likewise
    Estimate nll_added;
  };
  struct Attribution {
    int64_t windows = 0;
    std::vector<PartCost> parts;  // the last is the deployed network
  };
  struct Evaluation {
    std::string dataset;
    int64_t windows = 0;
    int64_t window_tokens = 0;           // of the longest
    int64_t shortest_window_tokens = 0;  // the same but for windows given as token ids
    int64_t tokens = 0;                  // in all windows together
    std::optional<double> original_perplexity;
    std::vector<double> original_window_nll;
    std::optional<Divergence> deployed;  // as vLLM runs the checkpoint
    std::optional<Divergence> pseudo;    // every matrix at its own scale, as Quark's tables have it
    bool pseudo_is_deployed = false;     // scales are shared: the two are one network
    std::optional<Attribution> attribution;  // of the deployed network
    std::vector<WorstToken> worst_tokens;    // of the deployed network, the worst first
    std::optional<std::string> notice;
  };
  struct Seconds {
    double total = 0;
    std::optional<double> calibration;
    std::optional<double> quantization;
    std::optional<double> evaluation;
    std::optional<double> measuring{};  // the pass that chose what to keep
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
  // Squared error of outputs over the tokens that compensated rounding sampled.
  struct OutputError {
    double compensated = 0;  // as the checkpoint has it
    double nearest = 0;      // had the weights been rounded to nearest
  };
  struct WeightRecord {
    std::string name;  // of the tensor: "model.layers.0.self_attn.q_proj.weight"
    Range range;
    int64_t saturated = 0;  // elements beyond +-448 scales before rounding
    int64_t elements = 0;
    int64_t layer = 0;
    std::optional<OutputError> output_error;
  };
  struct InputRecord {
    std::string name;  // of the linear
    Range range;
    int64_t layer = 0;
  };
  struct KvCacheRecord {
    std::string name;  // of the attention module
    Range key;         // after RoPE
    Range value;
  };
  // Squared change of a layer's output over its squared size, the mean over the tokens of the
  // probe; shares are of the sum over all parts of all layers.
  struct PartError {
    std::string part;  // "qkv", "o", "gate_up", "down", "kv_cache"
    double error = 0;  // from the layer with the parts before to that with this one
    double share = 0;
  };
  struct LayerError {
    double all = 0;  // from the original layer to the quantized one
    double share = 0;
    std::vector<PartError> parts;
  };
  // Linears that were left as they are because of what quantizing them does.
  struct KeptGroup {
    int64_t layer = 0;
    std::vector<std::string> linears;  // full names
    double error = 0;                  // as PartError
    double share = 0;
    int64_t extra_bytes = 0;  // of the checkpoint
  };
  struct Kept {
    std::optional<double> max_kl;   // --max_kl; nothing: --keep_layers
    std::vector<KeptGroup> groups;  // the worst first
    int64_t extra_bytes = 0;
    int64_t checkpoint_bytes = 0;  // of all tensors, these included
    // With --max_kl: KL of the deployed network that keeps nothing, and what was expected of this.
    std::optional<double> kl_without;
    std::optional<double> kl_predicted;
  };
  struct LayerRecord {
    int64_t elements = 0;  // sums over the layer's linears
    int64_t saturated = 0;
    std::optional<OutputError> output_error;
    // Wall time and transfers; none for a layer of an earlier, interrupted run.
    std::optional<double> seconds;
    std::optional<double> loading_seconds;  // until its weights were there, packed
    std::optional<Traffic> read, written;
    std::optional<int64_t> rss_bytes;   // resident memory after the layer
    std::optional<LayerError> error{};  // where probed
  };

  std::vector<std::string> command_line;  // argv
  std::string version;                    // of this program
  std::string model;                      // name of the base model
  std::optional<Strategy> strategy;       // nothing: not quantized
  std::optional<Calibration> calibration;
  std::optional<Evaluation> evaluation;
  std::optional<Kept> kept;
  Seconds seconds;
  int64_t peak_rss_bytes = 0;
  Compute compute;
  std::vector<std::string> warnings;
  std::vector<WeightRecord> weights;
  std::vector<InputRecord> inputs;
  std::vector<KvCacheRecord> kv_cache;  // by layer
  std::vector<LayerRecord> layers;
};

// narrow-report.json. Members that were not measured are null; so are numbers that are not finite.
std::string RenderReportJson(const RunReport& report);

// The closing table: lines of printable text that end in a newline.
std::string RenderSummaryTable(const RunReport& report);

// README.md of the output directory. `output_name` is what the deployment line loads.
// REQUIRES: report.strategy.
std::string RenderModelCard(const RunReport& report, const SourceFacts& source,
                            const std::string& output_name);

// "FP8 E4M3 weights and inputs (w_fp8_a_fp8), FP8 KV cache, rounding to nearest"; "not quantized".
std::string DescribeStrategy(const RunReport& report);
// What an adapter (LoRA) of the original model meets in this checkpoint, a sentence; empty where
// the channels of the heads are as they were.
std::string DescribeAdapters(const RunReport& report);
// "0.0495 ± 0.0019": the mean and one standard error, with `digits` decimals.
std::string FormatEstimate(const RunReport::Estimate& estimate, int digits);
// "weights", "inputs", "KV cache"; "q/k/v", "o", "gate/up", "down": a part as people call it.
std::string PartName(std::string_view part);
// "28 (12.3 %, down most), 0 (9.1 %, q/k/v most)": the layers with the largest shares of the output
// error, up to three; empty where nothing was probed.
std::string DescribeWorstLayers(const RunReport& report);
// "3 groups of linears, 12.4 MiB more (+8.7 %)"; REQUIRES: report.kept.
std::string DescribeKept(const RunReport& report);
// "model.layers.3.mlp.down_proj": the linears of a group, by the last parts of their names.
std::string DescribeGroup(const RunReport::KeptGroup& group);
// Whether --max_kl holds, in figures; empty without it or without an evaluation.
std::string DescribeLimit(const RunReport& report);
// "pileval, 128 samples, 46,026 tokens"; "2 of 128 samples" where there were fewer than asked for.
std::string DescribeCalibration(const RunReport::Calibration& calibration);
// "wikitext2, 8 windows of 2,048 tokens"; "8 windows of 12 to 2,048 tokens".
std::string DescribeEvaluation(const RunReport::Evaluation& evaluation);

}  // namespace narrow
