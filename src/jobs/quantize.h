// The main job: a checkpoint in, an FP8 checkpoint and its report out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "formats/registry.h"
#include "io/staged_directory.h"
#include "jobs/recipe.h"
#include "jobs/tokenized_text.h"
#include "model/model_source.h"
#include "quantization/kept_groups.h"
#include "quantization/layer_quantizer.h"
#include "report/report.h"

namespace narrow {

inline constexpr int64_t kDefaultAttributionWindows = 4;

struct QuantizeRequest {
  std::filesystem::path model_directory;
  // Where weights come from that are not in it; empty: it has them.
  std::function<CheckpointFiles()> weights{};
  int64_t weights_memory_bytes = 0;  // that fetching them takes
  std::string revision{};            // of a model of the hub: "org/name@main is COMMIT"
  std::filesystem::path output_directory;
  StagedDirectory::Existing existing = StagedDirectory::Existing::kRefuse;
  std::string scheme = "fp8";
  CacheScheme cache = CacheScheme::kNone;
  float min_cache_scale = 0.0f;
  WeightScales weight_scales = WeightScales::kPerFusedGroup;
  KeepRequest keep;                           // what to leave by measured error
  std::vector<std::string> exclude_patterns;  // shell patterns of full module names
  bool calibrate_all_experts = false;         // on all tokens, not on those alone that choose one
  std::string export_format = "fp8";
  // By schemes that are data; nothing: in FP8 with one static scale per tensor.
  struct Schemes {
    Recipe recipe;
    std::string format;                         // empty: what serves the first scheme best
    std::vector<std::string> include_patterns;  // what is quantized although it stays by default
    bool exact_quotient = false;
  };
  std::optional<Schemes> schemes;
  int64_t max_shard_bytes = 5'000'000'000;
  CalibrationOptions calibration;
  std::optional<EvaluationOptions> evaluation;
  // Arithmetic of attention over an FP8 cache that the evaluation and what follows it goes by.
  AttentionFigures attention = AttentionFigures::kBoth;
  // Windows of the evaluation on which the cost of weights, inputs and cache is told apart.
  int64_t attribution_windows = kDefaultAttributionWindows;
  DataType data_type = DataType::kAuto;
  RopeFactors rope_factors = RopeFactors::kServed;
  // State, spilled hidden states and log; default: ".<output>.narrow-work" beside the output.
  std::optional<std::filesystem::path> work_directory;
  enum class Resume { kAuto, kNever } resume = Resume::kAuto;
  // Resident memory of the process, all included; nothing: 80 % of what is available.
  std::optional<int64_t> memory_budget_bytes;
  RoundingAlgorithm rounding = RoundingAlgorithm::kCompensated;
  HeadBasis head_basis = HeadBasis::kFitted;
  double save_interval_seconds = 60;
  std::vector<std::string> command_line;  // for the report
  std::string version;                    // of the program, for the report
};

// The revision in a job's fingerprint, which a run that continues stays with.
inline constexpr const char* kRevisionKey = "model revision";

// What can be refused of a job from a directory without weights, and need not wait until they are
// fetched: paths, and what config.json says. Throws: as RunQuantize.
void CheckBeforeWeights(const QuantizeRequest& request);

// Leaves the complete output directory (weights, config, side files, report, model card) or
// nothing. Of several ranks (base/ranks.h) the leader does; the report of the others is empty.
// Throws: Error of any kind; everything that can be refused is refused before the pass begins.
RunReport RunQuantize(const QuantizeRequest& request, ProgressSink& progress);

struct EvaluateRequest {
  std::filesystem::path model_directory;
  EvaluationOptions evaluation;
  AttentionFigures attention = AttentionFigures::kBoth;  // of a checkpoint with an FP8 cache
  std::optional<int64_t> memory_budget_bytes;            // as for quantization
  // Where hidden states go that do not fit in memory; default: the directory for temporary files.
  std::optional<std::filesystem::path> work_directory;
  DataType data_type = DataType::kAuto;
  RopeFactors rope_factors = RopeFactors::kServed;
};

struct EvaluateResult : EvaluatedWindows {
  std::string dataset;
  std::optional<std::string> notice;
  // Over all predicted tokens; of a checkpoint with an FP8 cache, with attention in FP8 unless
  // asked otherwise.
  double perplexity = 0;
  std::optional<AttentionFigures> attention;        // nothing without an FP8 cache
  std::optional<double> perplexity_bf16_attention;  // the cache dequantized, where evaluated
  std::vector<double> window_nll;                   // the mean of each window
  double seconds = 0;                               // of the pass
  int64_t flops = 0;
};

// Perplexity of a checkpoint, unquantized or FP8. Throws: Error of any kind; kMemoryBudget, naming
// the smallest budget that would do, and a full disk before any work.
EvaluateResult RunEvaluate(const EvaluateRequest& request, ProgressSink& progress);

// Throws: kUnsupported for a naming of cache scales that vLLM does not load for the family, saying
// which it does. It fuses q, k and v of some families before it maps names, and then stumbles over
// those of the projections.
void CheckNamingLoads(const ModelFamily& family, const ExportFormat& format, CacheScheme cache);

// The modules that any of the patterns matches. Throws: kInvalidArgument for a pattern that matches
// nothing, and for one that splits linears a serving engine fuses (q/k/v, gate/up).
std::set<std::string> MatchExcluded(const ModelFamily& family, const DecoderConfig& config,
                                    const std::vector<std::string>& patterns);

}  // namespace narrow
