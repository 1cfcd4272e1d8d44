#include "io/checkpoint_files.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/file.h"
#include "io/model_directory.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSingleName = "model.safetensors";
constexpr std::string_view kSuffix = ".safetensors";

Json ReadConfig(const fs::path& directory) {
  std::error_code error;
  const fs::path path = directory / "config.json";
  if (!fs::exists(path, error)) FailWithoutConfig(directory);
  Json config;
  try {
    config = ReadJsonFile(path.string());
  } catch (const Error& damage) {
    Fail(damage.code(), "{}{}", damage.what(), LinkAsTextNote(path));
  }
  if (!config.is_object()) {
    Fail(ErrorCode::kCorruptInput, "{}: expected a JSON object", path.string());
  }
  return config;
}

// A file name of the index: one plain component, so that it cannot leave the directory.
void CheckFileName(const std::string& name, const std::string& index) {
  const bool plain = !name.empty() && name != "." && name != ".." &&
                     name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  if (!plain) {
    Fail(ErrorCode::kCorruptInput,
         "{}: weight_map names the file {}, which is not a plain file name in the "
         "checkpoint's directory",
         index, Quoted(name));
  }
  if (!name.ends_with(kSuffix)) {
    Fail(ErrorCode::kUnsupported, "{}: weight_map names {}, which is not a safetensors file", index,
         Quoted(name));
  }
}

// The weight file of a checkpoint without an index.
std::string OnlyWeightFile(const fs::path& directory) {
  std::error_code error;
  if (fs::exists(directory / kSingleName, error)) return std::string(kSingleName);
  std::vector<std::string> found;
  fs::directory_iterator entries(directory, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (name.ends_with(kSuffix) && !name.starts_with('.') && !IsAdapterWeights(name)) {
      found.push_back(name);
    }
  }
  if (error) {
    Fail(ErrorCode::kIo, "{}: cannot be listed: {}", directory.string(), error.message());
  }
  if (found.empty()) FailWithoutWeights(directory);
  if (found.size() > 1) {
    std::sort(found.begin(), found.end());
    Fail(ErrorCode::kNotFound,
         "{}: {} safetensors files ({}, {}{}) but no {} to say which belong together; download it "
         "again",
         directory.string(), found.size(), found[0], found[1], found.size() > 2 ? ", ..." : "",
         kIndexName);
  }
  return found.front();
}

std::unique_ptr<ByteSource> OpenWeights(const fs::path& path, bool indexed) {
  std::error_code error;
  if (indexed && !fs::exists(path, error)) {
    const bool single = fs::exists(path.parent_path() / kSingleName, error);
    Fail(ErrorCode::kNotFound, "{}: missing{}, although {} names it; download it again{}",
         path.string(), DanglingLinkNote(path), kIndexName,
         single ? fmt::format(", or remove the index if {} holds the whole model", kSingleName)
                : "");
  }
  return std::make_unique<InputFile>(path);
}

}  // namespace

WeightMap ParseWeightMap(const Json& index, const std::string& what) {
  const Json* map = OptionalObject(index, "weight_map", what);
  if (map == nullptr || map->empty()) {
    Fail(ErrorCode::kCorruptInput, "{}: weight_map is missing or empty", what);
  }
  WeightMap weights;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string()) {
      Fail(ErrorCode::kCorruptInput, "{}: weight_map gives tensor {} no file name", what,
           Quoted(tensor));
    }
    CheckFileName(file.get_ref<const std::string&>(), what);
    weights.emplace(tensor, file.get<std::string>());
  }
  return weights;
}

CheckpointFiles FindCheckpointFiles(const fs::path& directory) {
  CheckpointFiles files;
  files.directory = directory;
  files.config = ReadConfig(directory);
  const fs::path index = directory / kIndexName;
  std::error_code error;
  const bool indexed = fs::exists(index, error) || fs::is_symlink(index, error);
  if (indexed) {
    files.index = ParseWeightMap(ReadJsonFile(index.string()), index.string());
    for (const auto& [tensor, file] : *files.index) files.weights.insert(file);
    if (!files.weights.contains(std::string(kSingleName)) &&
        fs::exists(directory / kSingleName, error)) {
      files.remarks.push_back(fmt::format(
          "{} is there beside {}, which does not name it: the files of the index are read, as "
          "vLLM does; transformers reads {}. Remove the one that is not the model",
          kSingleName, kIndexName, kSingleName));
    }
  } else {
    files.weights.insert(OnlyWeightFile(directory));
  }
  files.open = [directory, indexed](const std::string& name) {
    return OpenWeights(directory / name, indexed);
  };
  return files;
}

}  // namespace narrow
