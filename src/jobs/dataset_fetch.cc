#include "jobs/dataset_fetch.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "hub/download.h"
#include "io/file.h"
#include "text/named_datasets.h"
#include "text/parquet/metadata.h"
#include "text/zstd_stream.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

// What of a repository is asked for.
struct DatasetQuery {
  std::string shown;  // "pileval"
  RepositoryName repository;
  std::string file;  // one file; empty: Parquet files of config and split
  std::string config;
  std::string split;
  std::string column;
};

const char* DefaultSplit(DatasetUse use) {
  return use == DatasetUse::kCalibration ? "train" : "test";
}

RepositoryName Repository(std::string_view id) {
  return ParseRepositoryName(id, RepositoryName::Kind::kDataset).value();
}

// The part up to the next colon, which is taken off `text`.
std::string TakePart(std::string_view& text) {
  const std::size_t colon = std::min(text.find(':'), text.size());
  const std::string part(text.substr(0, colon));
  text.remove_prefix(std::min(colon + 1, text.size()));
  return part;
}

// Nothing for any other source.
std::optional<DatasetQuery> ParseName(const std::string& source, DatasetUse use) {
  if (const NamedDataset* named = FindNamedDataset(source)) {
    const HubDataset& hub = named->hub;
    DatasetQuery query = {source, Repository(hub.repository), std::string(hub.file), "", "", ""};
    if (hub.file.empty()) {
      query.config = hub.config;
      query.split = DefaultSplit(use);
      query.column = "text";
    }
    return query;
  }
  std::string_view rest = source;
  const auto repository = ParseRepositoryName(TakePart(rest), RepositoryName::Kind::kDataset);
  if (!repository) return std::nullopt;
  DatasetQuery dataset = {source, *repository, "", TakePart(rest), TakePart(rest), ""};
  dataset.column = rest;
  if (dataset.split.empty()) dataset.split = DefaultSplit(use);
  return dataset;
}

// "config/split-00000-of-00001.parquet", "config/split/0000.parquet" and, of the config that has no
// folder of its own, "data/split-...parquet" and "split-...parquet".
struct ParquetPath {
  std::string config;
  std::string split;
};
std::optional<ParquetPath> ParseParquetPath(const std::string& path) {
  constexpr std::string_view kSuffix = ".parquet";
  if (!path.ends_with(kSuffix)) return std::nullopt;
  const fs::path whole(path);
  std::string folder = whole.parent_path().generic_string();
  std::string stem = whole.stem().string();
  const bool numbered = stem.find_first_not_of("0123456789") == std::string::npos;
  if (numbered && folder.find('/') != std::string::npos) {
    stem = whole.parent_path().filename().string();
    folder = whole.parent_path().parent_path().generic_string();
  }
  if (folder == "data" || folder == "default") folder.clear();
  return ParquetPath{folder, stem.substr(0, stem.find('-'))};
}

// Sorted; throws where there is none, or several configs and none is named.
std::vector<std::string> ParquetFiles(const DatasetQuery& dataset,
                                      const std::vector<std::string>& paths) {
  std::set<std::string> configs;
  std::set<std::string> known;
  for (const std::string& path : paths) {
    const auto parsed = ParseParquetPath(path);
    if (!parsed) continue;
    configs.insert(parsed->config);
    known.insert(fmt::format("{}:{}", parsed->config, parsed->split));
  }
  std::string config = dataset.config == "default" ? "" : dataset.config;
  if (dataset.config.empty() && configs.size() == 1) config = *configs.begin();
  std::vector<std::string> found;
  for (const std::string& path : paths) {
    const auto parsed = ParseParquetPath(path);
    if (parsed && parsed->config == config && parsed->split == dataset.split) {
      found.push_back(path);
    }
  }
  std::ranges::sort(found);
  if (found.empty()) {
    Fail(ErrorCode::kNotFound,
         "{}: has no Parquet files of config \"{}\" and split \"{}\"; its configs and splits are: "
         "{}",
         dataset.repository.Shown(), config, dataset.split,
         known.empty() ? "none (try the revision refs/convert/parquet)"
                       : fmt::format("{}", fmt::join(known, ", ")));
  }
  return found;
}

std::string SourceOf(const DatasetQuery& dataset, const std::string& commit) {
  return fmt::format("{} at {}", dataset.repository.id, commit);
}

// What the cache has, without the network; nothing when there is nothing.
std::optional<FoundDataset> FindCached(const DatasetQuery& dataset, const HubSettings& settings) {
  const HubCache cache(settings.cache, dataset.repository);
  const auto commit = cache.CommitOf(dataset.repository.revision);
  if (!commit) return std::nullopt;
  const fs::path snapshot = cache.Snapshot(*commit);
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(snapshot, error), end; !error && entry != end;
       entry.increment(error)) {
    if (fs::is_regular_file(entry->path(), error)) {
      paths.push_back(entry->path().lexically_relative(snapshot).generic_string());
    }
  }
  FoundDataset found = {dataset.shown, SourceOf(dataset, *commit), {}, dataset.column};
  if (!dataset.file.empty()) {
    if (std::ranges::count(paths, dataset.file) == 0) return std::nullopt;
    found.files.push_back({snapshot / dataset.file, dataset.file});
    return found;
  }
  try {
    for (const std::string& path : ParquetFiles(dataset, paths)) {
      found.files.push_back({snapshot / path, path});
    }
  } catch (const Error&) {
    return std::nullopt;
  }
  return found;
}

// The default set, if the cache has it.
std::optional<FoundDataset> FindDefault(DatasetUse use) {
  try {
    const auto name = ParseName(std::string(DefaultDataset(use).name), use);
    return FindCached(*name, HubSettingsFromEnvironment());
  } catch (const Error&) {  // no cache that can be read
    return std::nullopt;
  }
}

fs::path FetchStartOf(HubSnapshot& snapshot, const HubFile& file, int64_t documents,
                      ProgressSink& progress) {
  ZstdDecompressor decompressor(file.path);
  JsonLinesParser parser(file.path, {.max_documents = documents, .skip_empty = true});
  const ByteSink parse = [&](std::string_view text) { return parser.Add(text); };
  return snapshot.FetchStart(
      file, [&](std::span<const std::byte> bytes) { return !decompressor.Add(bytes, parse); },
      progress);
}

FoundDataset FetchFiles(const DatasetQuery& dataset, HubSnapshot& snapshot, int64_t documents,
                        ProgressSink& progress) {
  FoundDataset found = {
      dataset.shown, SourceOf(dataset, snapshot.listing().commit), {}, dataset.column};
  std::vector<std::string> paths;
  for (const HubFile& file : snapshot.listing().files) paths.push_back(file.path);
  int64_t rows = 0;
  for (const std::string& path : ParquetFiles(dataset, paths)) {
    snapshot.Fetch({snapshot.listing().Find(path)}, progress);
    found.files.push_back({snapshot.directory() / path, path});
    rows += ReadParquetMetadata(InputFile(found.files.back().path)).rows;
    if (documents == 0 || rows < documents) continue;
    // Empty rows are passed over: the next file may be needed all the same.
    DatasetRequest so_far;
    so_far.found = found;
    const Dataset texts = LoadDataset(so_far, DatasetUse::kCalibration, documents);
    if (std::ssize(texts.documents) >= documents) break;
  }
  return found;
}

FoundDataset Fetch(const DatasetQuery& dataset, DatasetUse use, int64_t documents,
                   ProgressSink& progress) {
  const HubSettings settings = HubSettingsFromEnvironment();
  if (settings.offline) {
    if (auto found = FindCached(dataset, settings)) return *std::move(found);
    Fail(ErrorCode::kNotFound,
         "{}: not in the cache {}, and HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids fetching "
         "it: unset it, or give a file",
         dataset.shown, settings.cache.string());
  }
  HubSnapshot snapshot(settings, dataset.repository, HubClient(settings).List(dataset.repository));
  if (dataset.file.empty()) return FetchFiles(dataset, snapshot, documents, progress);
  const HubFile* file = snapshot.listing().Find(dataset.file);
  if (file == nullptr) {
    Fail(ErrorCode::kNotFound, "{}: has no {}", dataset.repository.Shown(), dataset.file);
  }
  FoundDataset found = {dataset.shown, SourceOf(dataset, snapshot.listing().commit), {}, ""};
  if (use == DatasetUse::kCalibration && documents > 0) {
    found.files.push_back({FetchStartOf(snapshot, *file, documents, progress), file->path});
  } else {
    snapshot.Fetch({file}, progress);
    found.files.push_back({snapshot.directory() / file->path, file->path});
  }
  return found;
}

}  // namespace

void FetchDataset(DatasetRequest& request, DatasetUse use, int64_t documents,
                  ProgressSink& progress) {
  const std::string name = request.source.value_or(std::string(DefaultDataset(use).name));
  if (const NamedDataset* named = FindNamedDataset(name)) {
    if (LocateDataset(*named, ChooseDataDirectory(request.data_directory))) return;
  }
  if (!request.source) {
    request.found = FindDefault(use);
    return;
  }
  std::error_code error;
  if (FindNamedDataset(name) == nullptr && fs::exists(name, error)) return;
  if (const auto dataset = ParseName(name, use)) {
    try {
      request.found = Fetch(*dataset, use, documents, progress);
    } catch (const Error& failure) {
      if (failure.code() != ErrorCode::kIo) throw;
      Fail(ErrorCode::kIo, "{}: {}; a file is read without the hub", dataset->shown,
           failure.what());
    }
  }
}

void FetchDatasets(QuantizeRequest& request, ProgressSink& progress) {
  FetchDataset(request.calibration.dataset, DatasetUse::kCalibration, request.calibration.samples,
               progress);
  if (request.evaluation) {
    FetchDataset(request.evaluation->dataset, DatasetUse::kEvaluation, 0, progress);
  }
}

}  // namespace narrow
