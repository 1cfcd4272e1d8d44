#include "jobs/run_plan.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/checked_math.h"
#include "base/memory_use.h"
#include "base/parallel.h"
#include "base/ranks.h"
#include "formats/registry.h"
#include "io/paths.h"
#include "jobs/evaluation_parts.h"
#include "jobs/scheme_choice.h"
#include "jobs/tokenized_text.h"
#include "model/side_files.h"
#include "quantization/layer_probe.h"

namespace narrow {
namespace {

// Measuring takes seconds: small jobs are over before.
constexpr int64_t kMeasuredFromWeights = 1'000'000'000;
// Tokens of the test set of WikiText-2 as Llama 3 cuts it.
constexpr int64_t kWikiTextTokens = 289'077;
// Resident memory of tokenizer and texts, where they cannot be loaded to see: measured with the
// tokenizer of Llama 3.1 (128,256 entries) and WikiText-2.
constexpr int64_t kTokenizerBytesPerEntry = 512;

struct TokenCounts {
  int64_t calibration = 0;
  int64_t calibration_length = 0;  // of the longest document
  int64_t evaluation = 0;
  int64_t window_length = 0;  // see TokenStream::mean_length
  int64_t longest_window = 0;
  int64_t attribution = 0;
};

MachineRates Measure(const JobWork& work, int64_t budget, const JobDirectories& directories) {
  const JobShape& shape = work.shape;
  const int64_t block = ChoosePassPlan(shape, budget).hessian_block_columns;
  const int64_t widest = WidestInput(shape.layer());
  MachineRates rates;
  MeasureCompute({shape.family, shape.config, shape.compute,
                  std::max(work.window_tokens, work.calibration_length),
                  block == 0 ? widest : std::min(block, widest)},
                 rates);
  MeasureDisk(ExistingAncestor(directories.work), rates);
  return rates;
}

bool HasWeights(const std::filesystem::path& directory) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().extension() == ".safetensors") return true;
  }
  return false;
}

// A directory with config.json and no weights.
ModelSource WithoutWeights(const std::filesystem::path& directory) {
  const Json config = ReadJsonFile((directory / "config.json").string());
  DescribedModel described =
      DescribeModel(WithoutStatedSchemes(config), "config.json of " + directory.string());
  ModelSource model;
  model.family = described.family;
  model.config = std::move(described.config);
  return model;
}

// The index says how large the weights are: a config of another model is noticed.
void CompareWithIndex(const std::filesystem::path& directory, const JobWork& work,
                      std::vector<std::string>& assumptions) {
  const std::filesystem::path path = directory / "model.safetensors.index.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return;
  const std::string what = path.string();
  const Json index = ReadJsonFile(path);
  const Json* metadata = index.is_object() ? OptionalObject(index, "metadata", what) : nullptr;
  const std::optional<int64_t> total =
      metadata != nullptr ? OptionalInt(*metadata, "total_size", what) : std::nullopt;
  if (!total) return;
  const int64_t expected = work.embedding_bytes + (work.own_head() ? work.head_bytes : 0) +
                           work.layer_bytes + work.other_bytes;
  if (*total == expected) return;
  assumptions.push_back(fmt::format(
      "the index says the weights are {:.3f} GB, config.json says {:.3f} GB; the latter counts",
      static_cast<double>(*total) / 1e9, static_cast<double>(expected) / 1e9));
}

int64_t BoundedWindows(const EvaluationOptions& options) {
  const int64_t all = std::max<int64_t>(1, kWikiTextTokens / options.window_tokens);
  return options.windows == 0 ? all : options.windows;
}

// Whether the text can be counted: there is a tokenizer, or it is a file of token ids.
bool CanCount(const DatasetRequest& dataset, DatasetUse use, bool has_tokenizer) {
  if (has_tokenizer) return true;
  std::error_code error;
  const auto file = DatasetFile(dataset, use);
  return file && std::filesystem::exists(*file, error) &&
         !LoadDataset(dataset, use, 1).tokens.empty();
}

void CountCalibration(const CalibrationOptions& options, bool exactly, ModelTokenizer& tokenizer,
                      TokenCounts& counts, std::vector<std::string>& assumptions) {
  if (!exactly) {
    counts.calibration = options.samples * options.max_tokens;
    counts.calibration_length = options.max_tokens;
    assumptions.push_back(
        "no tokenizer.json: every calibration document is taken to be --seq_len tokens long");
    return;
  }
  const TokenizedText text = TokenizeCalibration(options, tokenizer);
  counts.calibration = text.stream.size();
  counts.calibration_length = text.stream.longest();
  assumptions.insert(assumptions.end(), text.warnings.begin(), text.warnings.end());
}

void CountEvaluation(const EvaluationOptions& options, int64_t attribution_windows, bool exactly,
                     ModelTokenizer& tokenizer, TokenCounts& counts,
                     std::vector<std::string>& assumptions) {
  if (!exactly) {
    const int64_t windows = BoundedWindows(options);
    counts.evaluation = windows * options.window_tokens;
    counts.window_length = counts.longest_window = options.window_tokens;
    counts.attribution = std::min(attribution_windows, windows) * options.window_tokens;
    if (options.windows > 0) return;
    assumptions.push_back(fmt::format(
        "no tokenizer.json: all windows of the evaluation text are taken to be {}, those of "
        "WikiText-2 in tokens of Llama 3",
        windows));
    return;
  }
  const TokenizedText text = TokenizeEvaluation(options, tokenizer);
  counts.evaluation = text.stream.size();
  counts.window_length = text.stream.mean_length();
  counts.longest_window = text.stream.longest();
  counts.attribution = TokensOfSpread(text.stream, attribution_windows);
  if (text.notice) assumptions.push_back(*text.notice);
  assumptions.insert(assumptions.end(), text.warnings.begin(), text.warnings.end());
}

// Exact counts where the texts and what it takes to cut them are there, else upper bounds from the
// flags.
TokenCounts CountTokens(const PlanRequest& request, ModelTokenizer& tokenizer,
                        std::vector<std::string>& assumptions) {
  const QuantizeRequest& job = request.job;
  TokenCounts counts;
  std::error_code error;
  const bool has_tokenizer = std::filesystem::exists(job.model_directory / "tokenizer.json", error);
  if (request.task == PlanRequest::Task::kQuantize) {
    const bool exactly = CanCount(job.calibration.dataset, DatasetUse::kCalibration, has_tokenizer);
    CountCalibration(job.calibration, exactly, tokenizer, counts, assumptions);
  }
  if (job.evaluation) {
    const bool exactly = CanCount(job.evaluation->dataset, DatasetUse::kEvaluation, has_tokenizer);
    CountEvaluation(*job.evaluation, job.attribution_windows, exactly, tokenizer, counts,
                    assumptions);
  }
  // The job has it in memory, too, when it looks what is resident.
  static_cast<void>(tokenizer.GetIfAny());
  return counts;
}

void NoteKeeping(const KeepRequest& request, std::vector<std::string>& assumptions) {
  if (request.max_kl) {
    assumptions.push_back(
        "--max_kl: the first pass (\"measuring\") is the last when its KL is low enough; else the "
        "weights are read a second time, and the output grows by what is kept, which is not known "
        "before");
  } else if (request.groups > 0) {
    assumptions.push_back(
        "--keep_layers: the weights are read twice, first to measure (\"measuring\"); the output "
        "is "
        "counted with the largest groups kept");
  }
}

JobShape ShapeOfPlan(const PlanRequest& request, const ModelSource& model,
                     const TokenCounts& counts) {
  const QuantizeRequest& job = request.job;
  JobShape shape = ShapeOf(model, ChooseComputeType(job.data_type), nullptr, nullptr, nullptr);
  shape.calibration_tokens = counts.calibration;
  shape.evaluation_tokens = counts.evaluation;
  shape.longest_sequence = std::max(counts.calibration_length, counts.longest_window);
  if (request.task == PlanRequest::Task::kQuantize) {
    shape.own_weight_scales = job.weight_scales == WeightScales::kPerMatrix;
    shape.rounding = job.rounding;
    shape.head_basis = job.head_basis;
    SetMeasurements(job, counts.attribution, shape);
  } else {
    shape.evaluation_variants = SourceVariants(model, job.attention);
  }
  std::error_code error;
  if (!std::filesystem::exists(job.model_directory / "tokenizer.json", error)) {
    shape.resident_before_bytes += model.config.vocabulary * kTokenizerBytesPerEntry;
  }
  return shape;
}

}  // namespace

namespace {

JobPlan PlanAndCheck(JobWork work, const JobDirectories& directories,
                     std::optional<int64_t> budget_bytes) {
  const int64_t budget = budget_bytes.value_or(DefaultMemoryBudget()) / JobRanks().on_this_host();
  std::optional<MachineRates> rates;
  if (work.weights() >= kMeasuredFromWeights && SmallestBudget(work.shape) <= budget) {
    rates = Measure(work, budget, directories);
  }
  JobPlan plan = MakePlan(std::move(work), directories, budget, rates);
  CheckDisks(plan);
  return plan;
}

// What choosing the groups to keep adds to the work. Throws: as CheckKeepRequest.
void CountKeeping(const KeepRequest& request, const ModelSource& model,
                  const std::set<std::string>& excluded, JobWork& work) {
  if (!request.any()) return;
  const std::vector<LayerGroup> groups = QuantizedGroups(model, excluded);
  CheckKeepRequest(request, groups);
  work.measuring = request.max_kl ? JobWork::Measuring::kEverything : JobWork::Measuring::kErrors;
  work.kept_bytes = LargestExtraBytes(groups, request.groups);
}

}  // namespace

int64_t SourceVariants(const ModelSource& model, AttentionFigures attention) {
  const bool both = attention == AttentionFigures::kBoth;
  return both && model.checkpoint != nullptr && HasFloat8Cache(model) ? 1 : 0;
}

JobDirectories DirectoriesOf(const QuantizeRequest& request) {
  const std::filesystem::path output = ResolvePath(request.output_directory);
  const std::filesystem::path beside =
      output.parent_path() / fmt::format(".{}.narrow-work", output.filename().string());
  return {output, ResolvePath(request.work_directory.value_or(beside))};
}

namespace {

// Stages of the attribution that no model of the evaluation is.
int64_t StagesBeside(bool cached, AttentionFigures attention) {
  return !cached ? 1 : (attention == AttentionFigures::kFloat8 ? 3 : 2);
}

}  // namespace

void SetMeasurements(const QuantizeRequest& request, int64_t attribution_tokens, JobShape& shape) {
  const bool evaluates = request.evaluation && shape.evaluation_tokens > 0;
  if (evaluates || request.keep.any()) shape.probe_tokens = kProbeSequences * kProbeTokens;
  const bool cached = request.cache == CacheScheme::kFp8;
  shape.both_attentions = cached && request.attention == AttentionFigures::kBoth;
  shape.evaluation_variants =
      1 + (shape.own_weight_scales ? 1 : 0) + (shape.both_attentions ? 1 : 0);
  if (!evaluates) return;
  shape.attribution_tokens = attribution_tokens;
  if (attribution_tokens == 0) return;
  shape.attribution_variants = StagesBeside(cached, request.attention);
}

void SetComparison(const CompareRequest& request, const ModelSource& judged,
                   const TokenStream& evaluation, JobShape& shape) {
  const bool cached = HasFloat8Cache(judged);
  shape.checkpoints = 2;
  shape.judged_own_head = judged.config.lm_head != DecoderConfig::LmHead::kTied;
  const Dtype stored = ShapeOf(judged, shape.compute, nullptr, nullptr, nullptr).stored;
  if (ElementBytes(stored) > ElementBytes(shape.stored)) shape.stored = stored;
  shape.both_attentions = cached && request.attention == AttentionFigures::kBoth;
  shape.evaluation_variants = 1 + (shape.both_attentions ? 1 : 0);
  shape.probe_tokens = kProbeSequences * kProbeTokens;
  shape.attribution_tokens = TokensOfSpread(evaluation, request.attribution_windows);
  if (shape.attribution_tokens == 0) return;
  shape.attribution_variants = StagesBeside(cached, request.attention);
}

void TakeShareOfTexts(int64_t ranks, JobShape& shape) {
  shape.ranks = ranks;
  for (int64_t* tokens :
       {&shape.calibration_tokens, &shape.evaluation_tokens, &shape.attribution_tokens}) {
    *tokens = DivideRoundUp(*tokens, ranks);
  }
}

JobPlan PlanBeforeWork(const QuantizeRequest& request, const ModelSource& model,
                       const std::set<std::string>& excluded, const JobShape& shape,
                       const TokenStream& calibration, const TokenStream* evaluation) {
  JobWork work = CountWork(model, excluded, shape);
  work.max_shard_bytes = request.max_shard_bytes;
  CountKeeping(request.keep, model, excluded, work);
  work.calibration_length = calibration.longest();
  work.window_tokens = evaluation != nullptr ? evaluation->mean_length() : 0;
  return PlanAndCheck(std::move(work), DirectoriesOf(request), request.memory_budget_bytes);
}

JobPlan PlanBeforeWork(const EvaluateRequest& request, const ModelSource& model,
                       const ModelSource* judged, const JobShape& shape,
                       const TokenStream& evaluation) {
  JobWork work = CountWork(model, {}, shape);
  if (judged != nullptr) AddReading(CountWork(*judged, {}, shape), work);
  work.window_tokens = evaluation.mean_length();
  // A directory of its own: what others keep beside it is no room.
  return PlanAndCheck(std::move(work), {{}, SpillParent(request) / "narrow-evaluation"},
                      request.memory_budget_bytes);
}

JobPlan RunPlan(const PlanRequest& request) {
  const QuantizeRequest& job = request.job;
  const bool quantizes = request.task == PlanRequest::Task::kQuantize;
  std::vector<std::string> assumptions;
  const bool has_weights = job.weights || HasWeights(job.model_directory);
  const WeightState state = quantizes ? WeightState::kDequantized : WeightState::kQuantizedToo;
  const ModelSource model = job.weights   ? OpenModel(job.weights(), state, job.rope_factors)
                            : has_weights ? OpenModel(job.model_directory, state, job.rope_factors)
                                          : WithoutWeights(job.model_directory);
  if (!has_weights) {
    assumptions.push_back(fmt::format("no weight files: sizes are those of config.json, in {}",
                                      Name(model.config.dtype)));
  }
  assumptions.insert(assumptions.end(), model.warnings.begin(), model.warnings.end());
  static_cast<void>(FindQuantizationScheme(job.scheme));
  CheckNamingLoads(*model.family, FindExportFormat(job.export_format), job.cache);
  std::set<std::string> excluded = MatchExcluded(*model.family, model.config, job.exclude_patterns);
  LayerQuantizationOptions options;
  if (quantizes && job.schemes && model.checkpoint != nullptr) {
    SetSchemes(job, model, options);
    excluded.merge(options.excluded);
  }
  ModelTokenizer tokenizer(job.model_directory, model.config.vocabulary,
                           model.checkpoint ? model.checkpoint->config() : Json::object(),
                           model.family->begins_windows);
  const TokenCounts counts = CountTokens(request, tokenizer, assumptions);
  const int64_t budget = job.memory_budget_bytes.value_or(DefaultMemoryBudget());
  JobShape shape = ShapeOfPlan(request, model, counts);
  TakeShareOfTexts(request.ranks, shape);
  shape.schemes = options.schemes;
  JobWork work = CountWork(model, excluded, std::move(shape));
  work.calibration_length = counts.calibration_length;
  work.window_tokens = counts.window_length;
  work.max_shard_bytes = job.max_shard_bytes;
  if (quantizes) {
    CountKeeping(job.keep, model, excluded, work);
    NoteKeeping(job.keep, assumptions);
  }
  if (!has_weights) CompareWithIndex(job.model_directory, work, assumptions);
  for (const SideFile& file : PlanSideFiles(job.model_directory).files) {
    work.other_bytes += file.bytes;
  }
  const JobDirectories directories = DirectoriesOf(job);
  std::optional<MachineRates> rates;
  if (SmallestBudget(work.shape) <= budget) {
    rates = Measure(work, budget, directories);
    rates->network = request.network;
  }
  if (request.ranks > 1) {
    assumptions.push_back(fmt::format(
        "{} ranks, each on a machine of its own like this one; memory and time are those "
        "of one of them{}",
        request.ranks, request.network > 0 ? "" : ", without what they exchange (--network)"));
  }
  JobPlan plan = MakePlan(std::move(work), directories, budget, rates);
  plan.assumptions = std::move(assumptions);
  if (request.download) AddDownload(*request.download, plan);
  return plan;
}

}  // namespace narrow
