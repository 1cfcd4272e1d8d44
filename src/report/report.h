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

#include "evaluation/attention_figures.h"
#include "evaluation/attribution.h"
#include "evaluation/divergence.h"
#include "evaluation/windows.h"
#include "formats/description.h"
#include "io/json.h"
#include "io/traffic.h"
#include "quantization/kept_groups.h"
#include "quantization/layer_quantizer.h"
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
    bool is_data = false;  // by schemes that are data, not in FP8 with one static scale per tensor
    std::vector<std::string> summaries{};  // of these, a line each
  };
  struct Calibration {
    std::string dataset;  // name or path
    int64_t samples = 0;
    int64_t tokens = 0;
    std::optional<std::string> notice;  // one sentence: why this data set, what to expect of it
    int64_t samples_asked = 0;
    int64_t empty_documents = 0;  // that were passed over
    std::string source{};         // repository and commit, where it came from the hub
  };
  // A token of deployed.worst, as people read it; it is the one after its outcome.
  struct WorstToken {
    HurtToken outcome;
    std::string token;                                         // text in valid UTF-8
    std::string context;                                       // the text just before it
    int64_t position() const { return outcome.position + 1; }  // in its window, from 0
  };
  struct Evaluation : EvaluatedWindows {
    std::string dataset;
    std::string source{};                       // repository and commit, where it came from the hub
    DivergenceSummary deployed;                 // as vLLM runs the checkpoint
    std::optional<AttentionFigures> attention;  // of it; nothing without an FP8 cache
    // Beside it, over a cache that is dequantized; nothing where not evaluated, or where that is
    // what `deployed` has.
    std::optional<DivergenceSummary> bf16_attention;
    // Every matrix at its own scale and the cache dequantized, as Quark's tables have it; nothing:
    // scales are shared, and it is one network with another.
    std::optional<DivergenceSummary> own_scales;
    int64_t attributed_windows = 0;
    std::vector<PartCost> part_costs;      // the last is the deployed network; may be empty
    std::vector<WorstToken> worst_tokens;  // of the deployed network, the worst first
    std::optional<std::string> notice;

    const DivergenceSummary& pseudo() const {
      if (own_scales) return *own_scales;
      return bf16_attention ? *bf16_attention : deployed;
    }
    // With the cache dequantized; null without an FP8 cache and where not evaluated.
    const DivergenceSummary* dequantized() const {
      if (bf16_attention) return &*bf16_attention;
      return attention == AttentionFigures::kDequantized ? &deployed : nullptr;
    }
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
    // Of a job that several ranks shared: each one's.
    struct Rank {
      std::string host;
      double seconds = 0, waiting_seconds = 0;  // since its start, and of these in exchanges
    };
    std::vector<Rank> ranks{};
  };
  // Linears that were left as they are because of what quantizing them does.
  struct Kept {
    std::optional<double> max_kl;  // --max_kl; nothing: --keep_layers
    KeptGroups choice;             // no groups where the KL was low enough without
    int64_t checkpoint_bytes = 0;  // of all tensors, those of the groups included
  };
  // A checkpoint that was not made by the run but compared with `model`.
  struct Judged {
    std::string name;     // as the user gave it
    std::string method;   // of its quantization, as its config calls it
    bool cached = false;  // it comes with scales of an FP8 KV cache
  };
  struct LayerRecord {
    LayerFacts facts;
    std::optional<LayerTimes> times;      // nothing for a layer of an earlier, interrupted run
    std::optional<int64_t> rss_bytes;     // resident memory after the layer; likewise
    std::optional<StageErrors> stages{};  // in the place of facts.errors, of a checkpoint judged
  };

  std::vector<std::string> command_line;  // argv
  std::string version;                    // of this program
  std::string model;                      // name of the base model
  std::optional<Judged> judged;           // then what follows of quantization is nothing
  std::optional<Strategy> strategy;       // nothing: not quantized
  std::optional<Calibration> calibration;
  std::optional<Evaluation> evaluation;
  std::optional<Kept> kept;
  Seconds seconds;
  int64_t peak_rss_bytes = 0;
  Compute compute;
  std::vector<std::string> warnings;
  std::vector<LayerRecord> layers;
};

// narrow-report.json. Members that were not measured are null; so are numbers that are not finite.
std::string RenderReportJson(const RunReport& report);

// The same of a comparison: the evaluation as there, and what differs by layer. REQUIRES:
// report.judged, report.evaluation.
std::string RenderComparisonJson(const RunReport& report);

// Adds the members of that name to what a report says of an evaluation.
void AddWindows(const EvaluatedWindows& evaluated, Json& json);

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
std::string FormatEstimate(const Estimate& estimate, int digits);
// "weights", "inputs", "kv_cache"; "qkv", "o", "gate_up", "down", and "kv_cache" for nothing: what
// the report calls a part.
std::string_view PartId(QuantizedPart part);
std::string_view PartId(std::optional<LinearGroup> group);
// The same as people call it: "weights", "KV cache", "q/k/v", "gate/up".
std::string PartName(std::string_view id);

// Of the perplexity, relative to the original's: 0.05 is 5 %. It is the exponential of the loss,
// and so, to first order, is its error.
Estimate PerplexityChange(const DivergenceSummary& summary);
// Verdict() of the deployed network, and that --max_kl does not hold. REQUIRES: report.evaluation.
std::string DeployedVerdict(const RunReport& report);

// Squared error of outputs over the tokens that compensated rounding sampled.
struct RoundingError {
  double compensated = 0;  // as the checkpoint has it
  double nearest = 0;      // had the weights been rounded to nearest
};
// Nothing for a linear that was rounded to nearest; the sum over a layer.
std::optional<RoundingError> RoundingErrorOf(const LinearFacts& linear);
std::optional<RoundingError> RoundingErrorOf(const LayerFacts& layer);

// A layer's output errors beside the sum over all parts of all layers.
struct PartShare {
  std::string_view id;
  double error = 0;  // as LayerErrors
  double share = 0;
};
struct LayerShares {
  double all = 0;  // the change from the original layer to the quantized one
  double share = 0;
  std::vector<PartShare> parts;  // in the order of the forward step, the cache last
};
// By layer; nothing where it was not probed.
std::vector<std::optional<LayerShares>> OutputErrors(const RunReport& report);

// "28 (12.3 %, down most), 0 (9.1 %, q/k/v most)": the layers with the largest shares of the output
// error, up to three; empty where nothing was probed.
std::string DescribeWorstLayers(const RunReport& report);
// "3 groups of linears, 12.4 MiB more (+8.7 %)"; REQUIRES: report.kept.
std::string DescribeKept(const RunReport& report);
// "model.layers.3.mlp.down_proj": the linears of a group, by the last parts of their names.
std::string DescribeGroup(const LayerGroup& group);
// Whether --max_kl holds, in figures; empty without it or without an evaluation.
std::string DescribeLimit(const RunReport& report);
// "pileval, 128 samples, 46,026 tokens"; "2 of 128 samples" where there were fewer than asked for.
std::string DescribeCalibration(const RunReport::Calibration& calibration);
// Where the figures of attention in FP8 and of a dequantized cache hold; empty without an FP8
// cache.
std::string DescribeAttention(const RunReport::Evaluation& evaluation);
// "wikitext2, 8 windows of 2,048 tokens"; "8 windows of 12 to 2,048 tokens".
std::string DescribeEvaluation(const RunReport::Evaluation& evaluation);

}  // namespace narrow
