#include "jobs/streamed_model.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/ranks.h"
#include "hub/hub_client.h"
#include "hub/model_files.h"
#include "jobs/model_location.h"
#include "jobs/run_plan.h"
#include "model/model_source.h"
#include "model/wrapper.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMeasuredBytes = int64_t{256} << 20;
constexpr double kMeasuredSeconds = 2;

// The commit that the saved state of the job is of, if it is of this name.
std::optional<std::string> SavedCommit(const QuantizeRequest& request, const std::string& start) {
  if (request.resume == QuantizeRequest::Resume::kNever) return std::nullopt;
  const fs::path state = DirectoriesOf(request).work / "state.json";
  std::error_code error;
  if (!fs::exists(state, error)) return std::nullopt;
  try {
    const Json fingerprint = ReadJsonFile(state.string()).at("fingerprint");
    const std::string revision = fingerprint.at(kRevisionKey);
    if (!revision.starts_with(start)) return std::nullopt;
    std::string commit = revision.substr(start.size());
    return IsCommit(commit) ? std::optional(commit) : std::nullopt;
  } catch (const Error&) {  // damaged: the job says so
  } catch (const nlohmann::json::exception&) {
  }
  return std::nullopt;
}

std::optional<WeightMap> IndexOf(const HubModel& model) {
  if (model.snapshot->listing().Find(kIndexName) == nullptr) return std::nullopt;
  const std::string path = (model.snapshot->directory() / kIndexName).string();
  return ParseWeightMap(ReadJsonFile(path), path);
}

// The checkpoint without the way to its weight files.
CheckpointFiles FilesOf(const HubModel& model) {
  CheckpointFiles files;
  files.directory = model.snapshot->directory();
  files.config = ReadJsonFile((files.directory / "config.json").string());
  if (!files.config.is_object()) {
    Fail(ErrorCode::kCorruptInput, "config.json of {}: expected a JSON object",
         model.snapshot->name().Shown());
  }
  files.index = IndexOf(model);
  for (const HubFile* file : model.weights) files.weights.insert(file->path);
  return files;
}

using Steps = std::vector<std::vector<std::string>>;

// The tensors of each step of a pass: the embedding, each layer, and the head with what is copied
// after it.
Steps TensorsOfSteps(const HubModel& model, const CheckpointFiles& files) {
  const std::string what = "config.json of " + model.snapshot->name().Shown();
  DescribedModel described = DescribeModel(files.config, what);
  const ModelFamily& family = *described.family;
  DecoderConfig& config = described.config;
  if (described.multimodal && files.index) {
    const auto has = [&](const std::string& name) { return files.index->contains(name); };
    config.names = LanguageNames(has, model.snapshot->name().Shown());
  }
  const ModelSpec outside = family.model(config);
  Steps tensors = {{outside.embedding}};
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerSpec layer = WithExperts(family.layer(config, i));
    std::vector<std::string>& step = tensors.emplace_back();
    for (const NamedShape& tensor : SmallTensors(layer)) step.push_back(tensor.name);
    for (const LinearSpec& linear : layer.linears) {
      if (linear.part) step.insert(step.end(), {linear.part->tensor, linear.part->bias});
      step.push_back(linear.weight());
      step.push_back(linear.bias_name());
    }
  }
  tensors.push_back({outside.lm_head});
  for (const NamedShape& norm : FinalNormTensors(outside)) tensors.back().push_back(norm.name);
  if (described.multimodal && files.index) {
    for (const auto& [name, file] : *files.index) {
      if (!name.starts_with(config.names.body)) tensors.back().push_back(name);
    }
  }
  return tensors;
}

// Files in the order that the pass reads them. Where the index knows none of a step's tensors, and
// where there is no index, all files.
Steps StepsOf(const HubModel& model, const CheckpointFiles& files) {
  Steps steps;
  for (const std::vector<std::string>& names : TensorsOfSteps(model, files)) {
    std::set<std::string> step;
    for (const std::string& name : names) {
      if (!files.index) break;
      const auto found = files.index->find(name);
      if (found != files.index->end()) step.insert(found->second);
    }
    if (step.empty()) step = files.weights;
    steps.emplace_back(step.begin(), step.end());
  }
  return steps;
}

fs::path ShardsDirectory(const QuantizeRequest& request) {
  fs::path work = DirectoriesOf(request).work;
  if (!work.has_filename()) work = work.parent_path();
  return work += ".shards";
}

bool CanContinue(ErrorCode code) {
  return code != ErrorCode::kInvalidArgument && code != ErrorCode::kUnsupported &&
         code != ErrorCode::kCorruptInput && code != ErrorCode::kNumeric;
}

}  // namespace

HubModel OpenHubModel(const std::string& given, const QuantizeRequest& request,
                      ProgressSink& progress) {
  const auto name = ParseRepositoryName(given, RepositoryName::Kind::kModel);
  if (!name) Fail(ErrorCode::kInvalidArgument, "{} is no name of a model of the hub", given);
  const HubSettings settings = HubSettingsFromEnvironment();
  const std::string start = fmt::format("{}@{} is ", name->id, name->revision);
  RepositoryName pinned = *name;
  if (const auto commit = SavedCommit(request, start)) pinned.revision = *commit;
  HubModel model;
  model.snapshot =
      std::make_shared<HubSnapshot>(settings, pinned, HubClient(settings).List(pinned));
  model.revision = start + model.snapshot->listing().commit;
  ModelFiles files = FindModelFiles(*model.snapshot, progress);
  model.snapshot->Fetch(files.description, progress);
  model.weights = std::move(files.weights);
  return model;
}

namespace {

// Calls `run` while the weights of `job`, whose description is here, come from the hub.
template <typename Run>
auto WithShards(const HubModel& model, const CheckpointFiles& files, Steps steps,
                int64_t limit_bytes, QuantizeRequest& job, ProgressSink& progress, const Run& run) {
  ShardStore store(model.snapshot, {ShardsDirectory(job), limit_bytes, std::move(steps)});
  job.weights_memory_bytes = PipelineBytes(model.snapshot->settings());
  job.weights = [&] {
    CheckpointFiles with_weights = files;
    with_weights.open = [&](const std::string& name) { return store.Open(name); };
    return with_weights;
  };
  try {
    auto result = run();
    progress.Info(fmt::format(
        "Fetched {:.3f} GB of weights while they were needed, {:.3f} GB on disk at most",
        static_cast<double>(store.fetched_bytes()) / 1e9,
        static_cast<double>(store.most_bytes()) / 1e9));
    return result;
  } catch (const Error& error) {
    if (CanContinue(error.code())) store.Keep();
    throw;
  } catch (...) {
    store.Keep();
    throw;
  }
}

}  // namespace

RunReport RunQuantize(QuantizeRequest request, const std::string& given,
                      std::optional<int64_t> limit_bytes, ProgressSink& progress) {
  if (limit_bytes) {
    const HubModel model = OpenHubModel(given, request, progress);
    request.model_directory = model.snapshot->directory();
    request.revision = model.revision;
    CheckBeforeWeights(request);
    const CheckpointFiles files = FilesOf(model);
    return WithShards(model, files, StepsOf(model, files), *limit_bytes, request, progress,
                      [&] { return RunQuantize(request, progress); });
  }
  JobRanks().FirstOnHost([&] {
    request.model_directory =
        LocateModel(given, ModelPart::kAll, progress, [&](const fs::path& path) {
          request.model_directory = path;
          CheckBeforeWeights(request);
        });
  });
  return RunQuantize(request, progress);
}

DataFreeResult RunDataFree(DataFreeRequest request, const std::string& given,
                           std::optional<int64_t> limit_bytes, ProgressSink& progress) {
  QuantizeRequest& job = request.job;
  if (limit_bytes) {
    const HubModel model = OpenHubModel(given, job, progress);
    job.model_directory = model.snapshot->directory();
    job.revision = model.revision;
    CheckBeforeWeights(request);
    const CheckpointFiles files = FilesOf(model);
    Steps steps;  // files are read from front to back, in the order of their names
    for (const std::string& name : files.weights) steps.push_back({name});
    return WithShards(model, files, std::move(steps), *limit_bytes, job, progress,
                      [&] { return RunDataFree(request, progress); });
  }
  job.model_directory = LocateModel(given, ModelPart::kAll, progress, [&](const fs::path& path) {
    job.model_directory = path;
    CheckBeforeWeights(request);
  });
  return RunDataFree(request, progress);
}

void ReadHeadersFromHub(const HubModel& model, QuantizeRequest& request) {
  request.model_directory = model.snapshot->directory();
  request.weights = [model] {
    CheckpointFiles files = FilesOf(model);
    const auto session = std::make_shared<HttpSession>(model.snapshot->settings());
    files.open = [model, session](const std::string& name) -> std::unique_ptr<ByteSource> {
      return std::make_unique<RemoteSource>(*model.snapshot, *model.snapshot->listing().Find(name),
                                            *session);
    };
    return files;
  };
}

DownloadPlan PlanDownload(const HubModel& model, const QuantizeRequest& request,
                          std::optional<int64_t> limit_bytes) {
  DownloadPlan plan;
  const HubFile* largest = nullptr;
  for (const HubFile* file : model.weights) {
    plan.files += 1;
    plan.model_bytes += file->size;
    if (!model.snapshot->Has({file})) plan.bytes += file->size;
    if (largest == nullptr || file->size > largest->size) largest = file;
  }
  // What is kept by measured error is chosen by a pass of its own, which reads everything.
  const bool twice = request.keep.any();
  if (limit_bytes && twice) plan.bytes *= 2;
  plan.streamed = limit_bytes.has_value();
  plan.twice = limit_bytes && twice;
  plan.disk_bytes = limit_bytes ? std::min(*limit_bytes, plan.bytes) : plan.bytes;
  plan.directory = limit_bytes ? ShardsDirectory(request) : model.snapshot->settings().cache;
  if (plan.bytes == 0 || largest == nullptr) return plan;
  struct Enough {};
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  try {
    FilePipeline(model.snapshot->settings())
        .Read(model.snapshot->Open(*largest), 0, [&](std::span<const std::byte> bytes) {
          plan.measured_bytes += std::ssize(bytes);
          if (seconds() > kMeasuredSeconds || plan.measured_bytes >= kMeasuredBytes) {
            throw Enough();
          }
        });
  } catch (const Enough&) {
  }
  plan.bytes_per_second = static_cast<double>(plan.measured_bytes) / std::max(seconds(), 1e-6);
  plan.seconds = static_cast<double>(plan.bytes) / plan.bytes_per_second;
  return plan;
}

}  // namespace narrow
