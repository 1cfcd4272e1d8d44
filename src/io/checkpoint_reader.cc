#include "io/checkpoint_reader.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";
constexpr std::string_view kSuffix = ".safetensors";

// Tensor name -> file name, as the index says.
using WeightMap = std::map<std::string, std::string>;

Json ReadConfig(const fs::path& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    Fail(ErrorCode::kNotFound, "{}: no such model directory", directory.string());
  }
  const fs::path path = directory / "config.json";
  if (!fs::exists(path, error)) {
    Fail(ErrorCode::kNotFound, "{}: no config.json; expected a Hugging Face checkpoint",
         directory.string());
  }
  Json config = ReadJsonFile(path.string());
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

WeightMap ReadIndex(const fs::path& path) {
  const std::string what = path.string();
  const Json json = ReadJsonFile(what);
  const Json* map = OptionalObject(json, "weight_map", what);
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

// The weight file of a checkpoint without an index.
std::string OnlyWeightFile(const fs::path& directory) {
  std::error_code error;
  if (fs::exists(directory / kSingleName, error)) return std::string(kSingleName);
  std::vector<std::string> found;
  fs::directory_iterator entries(directory, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (name.ends_with(kSuffix)) found.push_back(name);
  }
  if (error) {
    Fail(ErrorCode::kIo, "{}: cannot be listed: {}", directory.string(), error.message());
  }
  if (found.empty()) {
    Fail(ErrorCode::kNotFound, "{}: no safetensors weights ({} or {})", directory.string(),
         kSingleName, kIndexName);
  }
  if (found.size() > 1) {
    Fail(ErrorCode::kNotFound, "{}: {} safetensors files but no {} to say which belong together",
         directory.string(), found.size(), kIndexName);
  }
  return found.front();
}

std::unique_ptr<InputFile> OpenWeights(const fs::path& path, bool indexed) {
  std::error_code error;
  if (indexed && !fs::exists(path, error)) {
    Fail(ErrorCode::kNotFound, "{}: missing, although {} names it; download it again",
         path.string(), kIndexName);
  }
  return std::make_unique<InputFile>(path);
}

// Each tensor the index knows must be where it says.
void CheckIndexComplete(const WeightMap& weights,
                        const std::unordered_map<std::string, std::size_t>& found,
                        const fs::path& directory) {
  for (const auto& [tensor, file] : weights) {
    if (!found.contains(tensor)) {
      Fail(ErrorCode::kCorruptInput, "{}: has no tensor {}, although {} places it there",
           (directory / file).string(), Quoted(tensor), kIndexName);
    }
  }
}

void CheckPlace(const WeightMap& weights, const std::string& tensor, const fs::path& file) {
  const auto named = weights.find(tensor);
  if (named == weights.end()) {
    Fail(ErrorCode::kCorruptInput, "{}: tensor {} is not in {}", file.string(), Quoted(tensor),
         kIndexName);
  }
  if (named->second != file.filename()) {
    Fail(ErrorCode::kCorruptInput, "{}: tensor {} belongs to {} according to {}", file.string(),
         Quoted(tensor), named->second, kIndexName);
  }
}

}  // namespace

CheckpointReader::CheckpointReader(fs::path directory)
    : directory_(std::move(directory)), config_(ReadConfig(directory_)) {
  WeightMap weights;
  std::set<std::string> names;
  std::error_code error;
  const bool indexed = fs::exists(directory_ / kIndexName, error);
  if (indexed) {
    weights = ReadIndex(directory_ / kIndexName);
    for (const auto& [tensor, file] : weights) names.insert(file);
  } else {
    names.insert(OnlyWeightFile(directory_));
  }
  for (const std::string& name : names) {
    files_.push_back(OpenWeights(directory_ / name, indexed));
    const InputFile& file = *files_.back();
    for (SafetensorsEntry& entry : ReadSafetensorsHeader(file).entries) {
      if (indexed) CheckPlace(weights, entry.name, file.path());
      tensors_.push_back({&file, std::move(entry)});
    }
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const auto& a, const auto& b) { return a.entry.name < b.entry.name; });
  index_.reserve(tensors_.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    // CheckPlace allows a name in one file only, and a header cannot repeat one.
    NARROW_CHECK(index_.emplace(tensors_[i].entry.name, i).second);
  }
  if (indexed) CheckIndexComplete(weights, index_, directory_);
}

const CheckpointReader::TensorLocation* CheckpointReader::Find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const CheckpointReader::TensorLocation& CheckpointReader::Get(std::string_view name) const {
  const TensorLocation* location = Find(name);
  if (location == nullptr) {
    Fail(ErrorCode::kCorruptInput, "{}: the checkpoint has no tensor {}", directory_.string(),
         name);
  }
  return *location;
}

void CheckpointReader::Read(const TensorLocation& location, std::span<std::byte> bytes) const {
  NARROW_CHECK(static_cast<int64_t>(bytes.size()) == location.entry.bytes());
  ReadPart(location, 0, bytes);
}

void CheckpointReader::ReadPart(const TensorLocation& location, int64_t offset,
                                std::span<std::byte> bytes) const {
  NARROW_CHECK(offset >= 0 && offset <= location.entry.bytes() &&
               static_cast<int64_t>(bytes.size()) <= location.entry.bytes() - offset);
  traffic_->Measure(static_cast<int64_t>(bytes.size()),
                    [&] { location.file->ReadAt(location.entry.begin + offset, bytes); });
}

std::vector<CheckpointReader::FileFacts> CheckpointReader::files() const {
  std::vector<FileFacts> facts;
  for (const std::unique_ptr<InputFile>& file : files_) {
    facts.push_back({file->path().filename().string(), file->size(), file->modified_ns()});
  }
  return facts;
}

void CheckpointReader::CheckUnchanged() const {
  for (const std::unique_ptr<InputFile>& file : files_) file->CheckUnchanged();
}

}  // namespace narrow
