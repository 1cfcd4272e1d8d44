#include "jobs/calibrate_kv.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "formats/compressed_tensors/compressed_tensors.h"
#include "io/checkpoint_writer.h"
#include "io/directory_lock.h"
#include "io/model_directory.h"
#include "io/output_marker.h"
#include "io/paths.h"
#include "jobs/job_paths.h"
#include "jobs/run_plan.h"
#include "model/side_files.h"
#include "model/stored_layer.h"
#include "stream/streaming_pass.h"

namespace narrow {
namespace {

constexpr double kEnough = 1.1;  // times the least KL

// "quantization_config" with a cache in it. compressed-tensors names it; of `fp8` a loader takes
// scales that are there; a model that is not quantized gets a block of the cache alone.
Json WithCache(const Json& config, CacheTrial granularity) {
  Json changed = config;
  const Json cache = CompressedTensorsCache(granularity == CacheTrial::kHeads);
  const auto block = changed.find("quantization_config");
  if (block == changed.end() || block->is_null()) {
    Json added = CompressedTensorsConfig({});
    added["kv_cache_scheme"] = cache;
    changed["quantization_config"] = std::move(added);
    return changed;
  }
  const std::string method =
      OptionalString(*block, "quant_method", "quantization_config").value_or("");
  if (method == "compressed-tensors") {
    (*block)["kv_cache_scheme"] = cache;
  } else if (method != "fp8") {
    Fail(ErrorCode::kUnsupported,
         "quantization method {}: this build adds scales of the KV cache to checkpoints of "
         "compressed-tensors and fp8, and to unquantized ones",
         Quoted(method));
  } else if (granularity == CacheTrial::kHeads) {
    Fail(ErrorCode::kUnsupported,
         "quantization method \"fp8\" has one scale of K and one of V; use --kv_scales tensor");
  }
  return changed;
}

class KvRun {
 public:
  KvRun(const CalibrateKvRequest& request, ProgressSink& progress)
      : request_(request),
        progress_(progress),
        model_(
            OpenModel(request.model_directory, WeightState::kQuantizedToo, request.rope_factors)),
        config_(WithCache(model_.checkpoint->config(), request.granularity)),
        side_files_(PlanSideFiles(request.model_directory)),
        tokenizer_(request.model_directory, model_.config.vocabulary, model_.checkpoint->config(),
                   model_.family->begins_windows) {
    for (const std::string& warning : model_.warnings) progress.Warning(warning);
    for (const std::string& warning : side_files_.warnings) progress.Warning(warning);
    if (HasFloat8Cache(model_)) {
      Fail(ErrorCode::kUnsupported,
           "{} has scales of the KV cache already; start from a checkpoint without them",
           request.model_directory.string());
    }
  }

  CalibrateKvResult Run() {
    const TokenizedText calibration = TokenizeCalibration(request_.calibration, tokenizer_);
    const TokenizedText evaluation = TokenizeEvaluation(request_.evaluation, tokenizer_);
    for (const TokenizedText* text : {&calibration, &evaluation}) {
      for (const std::string& remark : RemarksOf(*text)) progress_.Warning(remark);
    }
    StagedDirectory output(request_.output_directory, request_.existing);
    PassRequest pass = MakePass(calibration.stream, evaluation.stream);
    std::optional<TemporaryDirectory> spill;
    if (pass.plan.hidden_states == Placement::kFile) {
      pass.work_directory = spill.emplace(output.path().parent_path()).path();
    }
    PassResult result = RunStreamingPass(pass, progress_);
    CalibrateKvResult found = Judge(result);
    WriteWeights(result.caches, output.path());
    WriteFileAtomically(output.path() / "config.json", RenderJsonFile(config_));
    CopySideFiles(side_files_, output.path());
    WriteFileAtomically(output.path() / "narrow-report.json",
                        RenderJsonFile(Report(found, calibration, evaluation, result.caches)));
    OutputMarker marker;
    marker.command = "calibrate-kv";
    output.Commit(std::move(marker));
    return found;
  }

 private:
  PassRequest MakePass(const TokenStream& calibration, const TokenStream& evaluation) const {
    PassRequest pass;
    pass.checkpoint = model_.checkpoint.get();
    pass.family = model_.family;
    pass.config = model_.config;
    pass.compute = ChooseComputeType(request_.data_type);
    pass.calibration = &calibration;
    pass.evaluation = &evaluation;
    pass.cache_trials = true;
    JobShape shape = ShapeOf(model_, pass.compute, nullptr, &calibration, &evaluation);
    shape.evaluation_variants = 3;
    QuantizeRequest planned;
    planned.model_directory = request_.model_directory;
    planned.output_directory = request_.output_directory;
    planned.memory_budget_bytes = request_.memory_budget_bytes;
    const JobPlan plan = PlanBeforeWork(planned, model_, {}, shape, calibration, &evaluation);
    pass.plan = plan.memory.plan;
    for (const std::string& line : ShortPlan(plan)) progress_.Info(line);
    return pass;
  }

  static CalibrateKvResult Judge(PassResult& result) {
    CalibrateKvResult found;
    found.caches = {{CacheTrial::kUnscaled, *std::move(result.cache_unscaled)},
                    {CacheTrial::kTensor, *std::move(result.cache_tensor)},
                    {CacheTrial::kHeads, *std::move(result.cache_heads)}};
    found.original_perplexity = found.caches.front().figures.original_perplexity;
    found.needed = NeededCache(found.caches);
    return found;
  }

  // The source's files, with names that make room for one more, and the scales.
  void WriteWeights(const std::vector<CacheChoice>& caches,
                    const std::filesystem::path& directory) const {
    const std::vector<CheckpointReader::FileFacts> files = model_.checkpoint->files();
    const bool indexed = std::filesystem::exists(request_.model_directory / kIndexName);
    const auto name_of = [&](const std::string& name) {
      return indexed ? name : std::string("model-00001-of-00002.safetensors");
    };
    const std::string added =
        indexed ? std::string("model-kv-scales.safetensors") : "model-00002-of-00002.safetensors";
    Json weight_map = Json::object();
    int64_t total = 0;
    for (const auto& tensor : model_.checkpoint->tensors()) {
      weight_map[tensor.entry.name] = name_of(tensor.file->path().filename().string());
      total += tensor.entry.bytes();
    }
    for (const CheckpointReader::FileFacts& file : files) {
      CopyWholeFile(request_.model_directory / file.name, directory / name_of(file.name),
                    request_.weights);
    }
    std::vector<TensorSpec> tensors;
    std::map<std::string, std::vector<float>> values;
    for (const CacheChoice& choice : caches) AddScales(choice, tensors, values);
    ShardPlan plan = PlanShards(tensors, std::numeric_limits<int64_t>::max());
    plan.shards.front().file_name = added;
    CheckpointWriter writer(directory, plan);
    for (const TensorSpec& tensor : tensors) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes()));
      StoreRow(tensor.dtype, values.at(tensor.name), bytes);
      writer.Write(tensor.name, bytes);
      weight_map[tensor.name] = added;
      total += tensor.bytes();
    }
    writer.Finish();
    Json index = Json::object();
    index["metadata"] = {{"total_size", total}};
    index["weight_map"] = std::move(weight_map);
    WriteFileAtomically(directory / kIndexName, RenderJsonFile(index));
  }

  void AddScales(const CacheChoice& choice, std::vector<TensorSpec>& tensors,
                 std::map<std::string, std::vector<float>>& values) const {
    const CacheQuantization cache = choice.Of(request_.granularity);
    const auto add = [&](const char* leaf, float one, const std::vector<float>& of_heads) {
      const std::string name = fmt::format("{}.{}", choice.attention_module, leaf);
      const bool heads = !of_heads.empty();
      const Shape shape = heads ? Shape{std::ssize(of_heads), 1, 1} : Shape{1};
      tensors.push_back({name, model_.config.dtype, shape});
      values[name] = heads ? of_heads : std::vector<float>{one};
    };
    add("k_scale", cache.key_scale, cache.key_scales);
    add("v_scale", cache.value_scale, cache.value_scales);
    add("q_scale", cache.query_scale, {});
  }

  Json Report(const CalibrateKvResult& found, const TokenizedText& calibration,
              const TokenizedText& evaluation, const std::vector<CacheChoice>& choices) const {
    Json report = Json::object();
    report["version"] = request_.version;
    report["command_line"] = request_.command_line;
    report["calibration"] = {{"dataset", calibration.dataset},
                             {"samples", calibration.stream.sequences.size()},
                             {"tokens", calibration.stream.size()}};
    report["evaluation"] = {{"dataset", evaluation.dataset},
                            {"windows", evaluation.stream.sequences.size()},
                            {"perplexity_without", found.original_perplexity}};
    Json caches = Json::object();
    for (const MeasuredCache& cache : found.caches) {
      caches[Describe(cache.trial)] = {{"perplexity", cache.figures.perplexity},
                                       {"kl", cache.figures.kl.mean}};
    }
    report["caches"] = std::move(caches);
    report["needed"] = Describe(found.needed);
    report["written"] = Describe(request_.granularity);
    Json layers = Json::array();
    for (const CacheChoice& choice : choices) {
      layers.push_back({{"name", choice.attention_module},
                        {"k_scale", choice.tensor.key_scale},
                        {"v_scale", choice.tensor.value_scale},
                        {"q_scale", choice.tensor.query_scale},
                        {"k_scale_of_heads", choice.heads.key_scales},
                        {"v_scale_of_heads", choice.heads.value_scales}});
    }
    report["layers"] = std::move(layers);
    return report;
  }

  const CalibrateKvRequest& request_;
  ProgressSink& progress_;
  const ModelSource model_;
  const Json config_;
  const SideFilePlan side_files_;
  ModelTokenizer tokenizer_;
};

}  // namespace

const char* Describe(CacheTrial trial) {
  switch (trial) {
    case CacheTrial::kTensor:
      return "a scale per tensor";
    case CacheTrial::kHeads:
      return "a scale per head";
    case CacheTrial::kUnscaled:
      break;
  }
  return "scale 1.0";
}

CacheTrial NeededCache(const std::vector<MeasuredCache>& caches) {
  const auto least = std::ranges::min_element(
      caches, {}, [](const MeasuredCache& cache) { return cache.figures.kl.mean; });
  const double enough = kEnough * std::max(0.0, least->figures.kl.mean);
  const auto first = std::ranges::find_if(
      caches, [&](const MeasuredCache& cache) { return cache.figures.kl.mean <= enough; });
  return first == caches.end() ? least->trial : first->trial;
}

CalibrateKvResult RunCalibrateKv(const CalibrateKvRequest& request, ProgressSink& progress) {
  CheckApart(OutputPaths("--output_dir", ResolvePath(request.output_directory)),
             std::vector<NamedPath>{{"--model_dir", request.model_directory}});
  StagedDirectory::CheckFinalPath(request.output_directory, request.existing);
  return KvRun(request, progress).Run();
}

}  // namespace narrow
