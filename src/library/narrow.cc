#include "library/narrow.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "base/memory_use.h"
#include "base/parallel.h"
#include "base/version.h"
#include "jobs/data_free.h"
#include "jobs/dataset_fetch.h"
#include "jobs/model_location.h"
#include "jobs/quantize.h"
#include "jobs/scheme_choice.h"
#include "jobs/streamed_model.h"
#include "schemes/scheme_presets.h"

namespace narrow {
namespace {

constexpr int64_t kMaxWindows = int64_t{1} << 20;

// The caller's view of a progress sink.
class ProgressAdapter final : public ProgressSink {
 public:
  explicit ProgressAdapter(Progress& progress) : progress_(progress) {}
  void Info(std::string_view message) override { progress_.Info(message); }
  void Warning(std::string_view message) override { progress_.Warning(message); }
  void BeginPhase(std::string_view name, int64_t total, std::string_view unit) override {
    progress_.BeginPhase(name, total, unit);
  }
  void Skip(int64_t done) override { progress_.Advance(done); }
  void Advance(int64_t done) override { progress_.Advance(done); }
  void EndPhase() override { progress_.EndPhase(); }

 private:
  Progress& progress_;
};

// Takes the members of a request that are set, and keeps the command that asks for the same, which
// report and card name.
class Translation {
 public:
  explicit Translation(const Request& request) : from_(request) {
    Require("--model_dir", from_.model_dir, to_.model_directory);
    Require("--output_dir", from_.output_dir, to_.output_directory);
    if (Flag("--overwrite", from_.overwrite)) to_.existing = StagedDirectory::Existing::kReplace;
    Scheme();
    FromWeights();
    Calibration();
    if (from_.skip_evaluation && from_.max_kl) {
      Fail(ErrorCode::kInvalidArgument,
           "max_kl is measured by the evaluation; leave out "
           "skip_evaluation, or use keep_layers");
    }
    if (!Flag("--skip_evaluation", from_.skip_evaluation)) Evaluation();
    Run();
    to_.version = kVersion;
  }

  // Whether the job needs no forward pass, as the program has it.
  bool IsDataFree() const {
    if (from_.skip_calibration) return true;
    if (from_.quant_algo != "none" || !from_.skip_evaluation || from_.kv_cache_dtype) return false;
    return std::ranges::none_of(AskedRecipe().Schemes(), NeedsCalibration);
  }
  // Bytes of disk space; nothing: weights are not streamed.
  std::optional<int64_t> StreamLimit() const {
    return from_.stream ? std::optional(stream_disk_) : std::nullopt;
  }

  QuantizeRequest Take() && {
    if (IsByData(to_.scheme, from_.recipe.has_value(), AskedFormat())) {
      to_.schemes = QuantizeRequest::Schemes{AskedRecipe(), AskedFormat(), from_.include_layers,
                                             from_.exact_quotient};
      if (!from_.quant_algo) to_.rounding = DefaultRounding(to_.schemes->recipe);
      to_.scheme = kDefaultSchemeName;
      to_.export_format = kDefaultExportFormat;
      to_.head_basis = HeadBasis::kOriginal;
    }
    to_.command_line = std::move(words_);
    return std::move(to_);
  }

  DataFreeRequest TakeDataFree() && {
    const auto refuse = [](bool given, std::string_view members) {
      if (given)
        Fail(ErrorCode::kInvalidArgument, "{}: needs a forward pass; leave it out", members);
    };
    refuse(from_.kv_cache_dtype.has_value(), "kv_cache_dtype");
    refuse(to_.keep.any(), "keep_layers or max_kl");
    DataFreeRequest request;
    request.recipe = AskedRecipe();
    request.format = AskedFormat();
    request.include_patterns = from_.include_layers;
    request.exact_quotient = from_.exact_quotient;
    to_.head_basis = HeadBasis::kOriginal;
    request.job = std::move(*this).Take();
    return request;
  }

 private:
  Recipe AskedRecipe() const {
    return from_.recipe ? ReadRecipe(*from_.recipe) : RecipeOfScheme(to_.scheme);
  }
  std::string AskedFormat() const { return from_.format.value_or(from_.custom_mode.value_or("")); }

  void Scheme() {
    Set("--quant_scheme", from_.quant_scheme, to_.scheme);
    if (Choice("--kv_cache_dtype", from_.kv_cache_dtype, {"fp8"})) to_.cache = CacheScheme::kFp8;
    Number("--min_kv_scale", from_.min_kv_scale, 0, std::numeric_limits<float>::max(),
           to_.min_cache_scale);
    if (Choice("--quant_algo", from_.quant_algo, {"gptq", "none"}) == "none") {
      to_.rounding = RoundingAlgorithm::kNearest;
    }
    if (Choice("--head_basis", from_.head_basis, {"fitted", "none"}) == "none") {
      to_.head_basis = HeadBasis::kOriginal;
    }
    if (Flag("--no_weight_matrix_merge", from_.no_weight_matrix_merge)) {
      to_.weight_scales = WeightScales::kPerMatrix;
    }
    to_.exclude_patterns = Patterns("--exclude_layers", from_.exclude_layers);
    if (from_.keep_layers.value_or(0) > 0 && from_.max_kl) {
      Fail(ErrorCode::kInvalidArgument,
           "keep_layers and max_kl both say how much to keep; give one");
    }
    Number("--keep_layers", from_.keep_layers, 0, std::numeric_limits<int64_t>::max(),
           to_.keep.groups);
    double max_kl = 0;
    Number("--max_kl", from_.max_kl, std::numeric_limits<double>::min(),
           std::numeric_limits<double>::max(), max_kl);
    if (from_.max_kl) to_.keep.max_kl = max_kl;
    if (from_.format && from_.custom_mode && from_.format != from_.custom_mode) {
      Fail(ErrorCode::kInvalidArgument,
           "format and custom_mode, its older name, contradict each other; give one");
    }
    Set("--format", from_.format, to_.export_format);
    Set("--custom_mode", from_.custom_mode, to_.export_format);
    Number("--max_shard_size", from_.max_shard_size, 1, int64_t{1} << 62, to_.max_shard_bytes);
  }

  void FromWeights() {
    Flag("--skip_calibration", from_.skip_calibration);
    if (from_.recipe) Say("--recipe", from_.recipe->string());
    static_cast<void>(Patterns("--include_layers", from_.include_layers));
    Flag("--exact_quotient", from_.exact_quotient);
    if (IsDataFree() || IsByData(to_.scheme, from_.recipe.has_value(), AskedFormat())) return;
    if (!from_.include_layers.empty() || from_.exact_quotient) {
      Fail(ErrorCode::kInvalidArgument,
           "include_layers and exact_quotient are for other schemes and skip_calibration");
    }
  }

  void Calibration() {
    Set("--dataset", from_.dataset, to_.calibration.dataset.source);
    Set("--data_dir", from_.data_dir, to_.calibration.dataset.data_directory);
    Number("--num_calib_data", from_.num_calib_data, 1, int64_t{1} << 24, to_.calibration.samples);
    Number("--seq_len", from_.seq_len, 1, int64_t{1} << 20, to_.calibration.max_tokens);
    if (Flag("--no_special_tokens", from_.no_special_tokens)) {
      to_.calibration.special_tokens = SpecialTokens::kNone;
    }
  }

  void Evaluation() {
    EvaluationOptions& evaluation = to_.evaluation.emplace();
    Set("--eval_data", from_.eval_data, evaluation.dataset.source);
    evaluation.dataset.data_directory = to_.calibration.dataset.data_directory;
    evaluation.special_tokens = to_.calibration.special_tokens;
    Number("--eval_windows", from_.eval_windows, 0, kMaxWindows, evaluation.windows);
    Number("--window_tokens", from_.window_tokens, 2, int64_t{1} << 20, evaluation.window_tokens);
    if (Choice("--eval_window_order", from_.eval_window_order, {"spread", "first"}) == "first") {
      evaluation.choice = WindowChoice::kFirst;
    }
    const auto start = Choice("--window_bos", from_.window_bos, {"always", "never"});
    if (start == "always") evaluation.start = WindowStart::kBeginOfText;
    if (start == "never") evaluation.start = WindowStart::kText;
    const auto attention = Choice("--attention", from_.attention, {"both", "fp8", "bf16"});
    if (attention == "fp8") to_.attention = AttentionFigures::kFloat8;
    if (attention == "bf16") to_.attention = AttentionFigures::kDequantized;
    Number("--attribution_windows", from_.attribution_windows, 0, kMaxWindows,
           to_.attribution_windows);
  }

  void Run() {
    const auto type = Choice("--data_type", from_.data_type, {"auto", "bfloat16", "float32"});
    if (type == "bfloat16") to_.data_type = DataType::kBfloat16;
    if (type == "float32") to_.data_type = DataType::kFloat32;
    const auto factors = Choice("--rope_factors", from_.rope_factors, {"short", "long"});
    if (factors == "short") to_.rope_factors = RopeFactors::kShort;
    if (factors == "long") to_.rope_factors = RopeFactors::kLong;
    int64_t threads = 0;
    Number("--threads", from_.threads, 0, 4096, threads);
    SetThreadCount(static_cast<int>(threads));
    int64_t budget = 0;
    Number("--memory_budget", from_.memory_budget, 1, int64_t{1} << 62, budget);
    if (from_.memory_budget) to_.memory_budget_bytes = budget;
    if (from_.work_dir) {
      Say("--work_dir", from_.work_dir->string());
      to_.work_directory = from_.work_dir;
    }
    if (Choice("--resume", from_.resume, {"auto", "never"}) == "never") {
      to_.resume = QuantizeRequest::Resume::kNever;
    }
    Stream();
    Number("--save_interval", from_.save_interval, 0, std::numeric_limits<double>::max(),
           to_.save_interval_seconds);
  }

  void Stream() {
    if (from_.stream_disk && !from_.stream) {
      Fail(ErrorCode::kInvalidArgument, "stream_disk is about stream; set that, too");
    }
    if (Flag("--stream", from_.stream) && !IsHubModel(from_.model_dir.string())) {
      Fail(ErrorCode::kInvalidArgument,
           "stream is about models of the hub, and model_dir {} is none; leave it out",
           from_.model_dir.string());
    }
    Number("--stream_disk", from_.stream_disk, 1, int64_t{1} << 62, stream_disk_);
  }

  std::vector<std::string> Patterns(const char* flag, const std::vector<std::string>& patterns) {
    for (const std::string& pattern : patterns) Say(flag, pattern);
    return patterns;
  }

  void Say(const char* flag, std::string value) {
    words_.emplace_back(flag);
    words_.push_back(std::move(value));
  }

  bool Flag(const char* flag, bool value) {
    if (value) words_.emplace_back(flag);
    return value;
  }

  void Require(const char* flag, const std::filesystem::path& value, std::filesystem::path& to) {
    if (value.empty()) Fail(ErrorCode::kInvalidArgument, "{} is required", flag + 2);
    Say(flag, value.string());
    to = value;
  }

  template <typename To>
  void Set(const char* flag, const std::optional<std::string>& value, To& to) {
    if (!value) return;
    Say(flag, *value);
    to = *value;
  }

  std::optional<std::string> Choice(const char* flag, const std::optional<std::string>& value,
                                    std::initializer_list<std::string_view> choices) {
    if (!value) return std::nullopt;
    if (std::ranges::count(choices, *value) == 0) {
      Fail(ErrorCode::kInvalidArgument, "{} {}: expected {}", flag + 2, Quoted(*value),
           fmt::join(choices, " or "));
    }
    Say(flag, *value);
    return value;
  }

  // Bounds that every value has to be inside of; NaN is not.
  template <typename T, typename To>
  void Number(const char* flag, const std::optional<T>& value, std::type_identity_t<T> smallest,
              std::type_identity_t<T> largest, To& to) {
    if (!value) return;
    if (!(*value >= smallest && *value <= largest)) {
      Fail(ErrorCode::kInvalidArgument, "{} {}: expected a number from {} to {}", flag + 2, *value,
           smallest, largest);
    }
    Say(flag, fmt::format("{}", *value));
    to = static_cast<To>(*value);
  }

  const Request& from_;
  QuantizeRequest to_;
  int64_t stream_disk_ = kDefaultStreamDisk;
  std::vector<std::string> words_ = {"narrow", "quantize"};
};

Result ResultOf(DataFreeResult done) {
  Result result;
  result.summary = Summary(done);
  result.warnings = std::move(done.warnings);
  result.seconds = done.seconds;
  result.peak_memory_bytes = PeakResidentBytes();
  return result;
}

Result ResultOf(RunReport report) {
  Result result;
  if (report.evaluation) {
    const DivergenceSummary& deployed = report.evaluation->deployed;
    result.evaluation = {
        report.evaluation->dataset, report.evaluation->windows, deployed.original_perplexity,
        deployed.perplexity,        deployed.kl.mean,           deployed.top1_agreement.mean};
  }
  result.summary = RenderSummaryTable(report);
  result.warnings = std::move(report.warnings);
  result.seconds = report.seconds.total;
  result.peak_memory_bytes = report.peak_rss_bytes;
  return result;
}

}  // namespace

Result Quantize(const Request& request, Progress* progress) {
  Progress silent;
  ProgressAdapter sink(progress == nullptr ? silent : *progress);
  try {
    Translation translation(request);
    const std::string model = request.model_dir.string();
    const std::optional<int64_t> limit = translation.StreamLimit();
    if (translation.IsDataFree()) {
      return ResultOf(RunDataFree(std::move(translation).TakeDataFree(), model, limit, sink));
    }
    QuantizeRequest job = std::move(translation).Take();
    FetchDatasets(job, sink);
    return ResultOf(RunQuantize(std::move(job), model, limit, sink));
  } catch (const Error& error) {
    throw Failure(static_cast<int>(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    throw Failure(static_cast<int>(ErrorCode::kMemoryBudget), "out of memory");
  } catch (const std::exception& error) {
    throw Failure(static_cast<int>(ErrorCode::kInternal), error.what());
  }
}

const char* Version() noexcept { return kVersion; }

}  // namespace narrow
