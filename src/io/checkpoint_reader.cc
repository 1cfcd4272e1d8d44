#include "io/checkpoint_reader.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "io/model_directory.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";
constexpr std::string_view kSuffix = ".safetensors";
constexpr int64_t kCompareBytes = int64_t{1} << 22;

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

std::unique_ptr<InputFile> OpenWeights(const fs::path& path, bool indexed) {
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

// Takes the tensors of one file after the other, by what the index says.
class CheckpointReader::Loader {
 public:
  explicit Loader(CheckpointReader& reader) : reader_(reader), directory_(reader.directory_) {}

  void Load() {
    std::set<std::string> names;
    std::error_code error;
    indexed_ = fs::exists(directory_ / kIndexName, error) ||
               fs::is_symlink(directory_ / kIndexName, error);
    if (indexed_) {
      const std::string index = (directory_ / kIndexName).string();
      listed_ = ParseWeightMap(ReadJsonFile(index), index);
      for (const auto& [tensor, file] : listed_) names.insert(file);
      if (!names.contains(std::string(kSingleName)) &&
          fs::exists(directory_ / kSingleName, error)) {
        reader_.remarks_.push_back(fmt::format(
            "{} is there beside {}, which does not name it: the files of the index are read, as "
            "vLLM does; transformers reads {}. Remove the one that is not the model",
            kSingleName, kIndexName, kSingleName));
      }
    } else {
      names.insert(OnlyWeightFile(directory_));
    }
    for (const std::string& name : names) {
      reader_.files_.push_back(OpenWeights(directory_ / name, indexed_));
      const InputFile& file = *reader_.files_.back();
      for (SafetensorsEntry& entry : ReadSafetensorsHeader(file).entries) {
        Take(file, std::move(entry));
      }
    }
    CheckListed();
  }

 private:
  void Take(const InputFile& file, SafetensorsEntry entry) {
    const std::string name = file.path().filename().string();
    const auto listed = listed_.find(entry.name);
    if (listed != listed_.end() && listed->second != name) {
      copies_.emplace(entry.name, name);
      return;
    }
    const auto [first, added] = taken_.emplace(entry.name, name);
    if (!added) {  // without an index there is one file, and a header cannot repeat a name
      Fail(ErrorCode::kCorruptInput,
           "tensor {} is in {} and in {}, and {} lists neither; add it to the index",
           Quoted(entry.name), first->second, file.path().string(), kIndexName);
    }
    reader_.tensors_.push_back({&file, std::move(entry), !indexed_ || listed != listed_.end()});
  }

  void CheckListed() {
    for (const auto& [tensor, file] : listed_) {
      if (taken_.contains(tensor)) continue;
      const auto copy = copies_.find(tensor);
      if (copy != copies_.end()) {
        Fail(ErrorCode::kCorruptInput,
             "{}: tensor {} belongs to {} according to {}, which has no such tensor; the index and "
             "the files are not of the same model: download them again",
             (directory_ / copy->second).string(), Quoted(tensor), file, kIndexName);
      }
      reader_.absent_.emplace(tensor, file);
    }
    if (copies_.empty()) return;
    const auto& [tensor, file] = *copies_.begin();
    reader_.remarks_.push_back(fmt::format(
        "tensor {}{} is stored twice: the one in {} is read, as {} says, not the one in {}",
        Quoted(tensor), copies_.size() > 1 ? fmt::format(" (and {} more)", copies_.size() - 1) : "",
        listed_.at(tensor), kIndexName, file));
  }

  CheckpointReader& reader_;
  const fs::path& directory_;
  bool indexed_ = false;
  WeightMap listed_;                          // by the index
  std::map<std::string, std::string> taken_;  // tensor -> file
  std::multimap<std::string, std::string>
      copies_;  // tensor -> a file that the index does not name for it
};

CheckpointReader::CheckpointReader(fs::path directory)
    : directory_(std::move(directory)), config_(ReadConfig(directory_)) {
  Loader(*this).Load();
  SortTensors();
}

void CheckpointReader::SortTensors() {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const auto& a, const auto& b) { return a.entry.name < b.entry.name; });
  index_.clear();
  index_.reserve(tensors_.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    NARROW_CHECK(index_.emplace(tensors_[i].entry.name, i).second);
  }
}

void CheckpointReader::Rename(const std::string& stored, const std::string& name) {
  NARROW_CHECK(index_.contains(stored) && !index_.contains(name));
  TensorLocation& tensor = tensors_[index_.at(stored)];
  tensor.entry.name = name;
  tensor.listed = true;  // whoever names it has decided
  absent_.erase(name);
  SortTensors();
}

const CheckpointReader::TensorLocation* CheckpointReader::Find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const CheckpointReader::TensorLocation& CheckpointReader::Get(std::string_view name) const {
  const TensorLocation* location = Find(name);
  if (const auto listed = absent_.find(std::string(name)); listed != absent_.end()) {
    Fail(ErrorCode::kCorruptInput,
         "{}: has no tensor {}, although {} places it there; download both again",
         (directory_ / listed->second).string(), Quoted(name), kIndexName);
  }
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

bool CheckpointReader::SameContents(std::string_view a, std::string_view b) const {
  const TensorLocation& first = Get(a);
  const TensorLocation& second = Get(b);
  if (first.entry.dtype != second.entry.dtype || first.entry.shape != second.entry.shape) {
    return false;
  }
  const int64_t bytes = first.entry.bytes();
  std::vector<std::byte> left(static_cast<std::size_t>(std::min(kCompareBytes, bytes)));
  std::vector<std::byte> right(left.size());
  for (int64_t offset = 0; offset < bytes; offset += kCompareBytes) {
    const auto count = static_cast<std::size_t>(std::min(kCompareBytes, bytes - offset));
    ReadPart(first, offset, std::span(left).first(count));
    ReadPart(second, offset, std::span(right).first(count));
    if (std::memcmp(left.data(), right.data(), count) != 0) return false;
  }
  return true;
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
