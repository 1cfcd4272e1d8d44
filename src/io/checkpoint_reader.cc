#include "io/checkpoint_reader.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kCompareBytes = int64_t{1} << 22;

}  // namespace

// Takes the tensors of one file after the other, by what the index says.
class CheckpointReader::Loader {
 public:
  Loader(CheckpointReader& reader, std::optional<WeightMap> index)
      : reader_(reader),
        directory_(reader.directory_),
        indexed_(index.has_value()),
        listed_(std::move(index).value_or(WeightMap())) {}

  void Load(const CheckpointFiles& files) {
    for (const std::string& name : files.weights) {
      reader_.files_.push_back(files.open(name));
      const ByteSource& file = *reader_.files_.back();
      for (SafetensorsEntry& entry : ReadSafetensorsHeader(file).entries) {
        Take(file, std::move(entry));
      }
    }
    CheckListed();
  }

 private:
  void Take(const ByteSource& file, SafetensorsEntry entry) {
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
  bool indexed_;
  WeightMap listed_;                          // by the index
  std::map<std::string, std::string> taken_;  // tensor -> file
  std::multimap<std::string, std::string>
      copies_;  // tensor -> a file that the index does not name for it
};

CheckpointReader::CheckpointReader(const fs::path& directory)
    : CheckpointReader(FindCheckpointFiles(directory)) {}

CheckpointReader::CheckpointReader(CheckpointFiles files)
    : directory_(std::move(files.directory)),
      config_(std::move(files.config)),
      remarks_(std::move(files.remarks)) {
  Loader(*this, std::move(files.index)).Load(files);
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
  for (const std::unique_ptr<ByteSource>& file : files_) {
    facts.push_back({file->path().filename().string(), file->size(), file->modified_ns()});
  }
  return facts;
}

void CheckpointReader::CheckUnchanged() const {
  for (const std::unique_ptr<ByteSource>& file : files_) file->CheckUnchanged();
}

}  // namespace narrow
