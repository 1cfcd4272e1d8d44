#include "import/gguf_set.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "import/dequantize.h"
#include "import/metadata.h"
#include "io/json.h"

namespace narrow {
namespace {

constexpr int64_t kMaxParts = 9999;

std::string PartEnding(int64_t part, int64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", part, count);
}

}  // namespace

GgufSet::GgufSet(const std::filesystem::path& path) {
  parts_.emplace_back(path);
  if (GgufMetadata(header(), path.string()).OptionalInt("split.count").value_or(1) > 1) {
    OpenOthers(path);
  }
}

void GgufSet::OpenOthers(const std::filesystem::path& path) {
  const std::string first = path.string();
  const GgufMetadata metadata(header(), first);
  const int64_t count = metadata.Int("split.count");
  const int64_t number = metadata.Int("split.no");
  const std::string ending = PartEnding(1, count);
  if (count > kMaxParts) {
    Fail(ErrorCode::kCorruptInput, "{}: split.count is {}; at most {} are handled", first, count,
         kMaxParts);
  }
  if (number != 0 || !first.ends_with(ending)) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: part {} of {} of a split set; give the first one, whose name ends with {}, with the "
         "others beside it",
         first, number + 1, count, ending);
  }
  const std::string stem = first.substr(0, first.size() - ending.size());
  int64_t tensors = std::ssize(header().tensors);
  for (int64_t part = 1; part < count; ++part) {
    const std::string name = stem + PartEnding(part + 1, count);
    parts_.emplace_back(name);
    const GgufMetadata other(parts_.back().header, name);
    if (other.Int("split.no") != part || other.Int("split.count") != count) {
      Fail(ErrorCode::kCorruptInput, "{}: says it is part {} of {}; expected part {} of {}", name,
           other.Int("split.no") + 1, other.Int("split.count"), part + 1, count);
    }
    tensors += std::ssize(parts_.back().header.tensors);
  }
  const int64_t expected = metadata.OptionalInt("split.tensors.count").value_or(tensors);
  if (tensors != expected) {
    Fail(ErrorCode::kCorruptInput, "{}: the {} parts hold {} tensors; split.tensors.count is {}",
         first, count, tensors, expected);
  }
}

std::vector<GgufSource> GgufSet::tensors() const {
  std::vector<GgufSource> all;
  for (const Part& part : parts_) {
    for (const GgufTensor& tensor : part.header.tensors) all.push_back({&tensor, &part.file});
  }
  return all;
}

GgufTensors::GgufTensors(const std::vector<GgufSource>& tensors, std::string what)
    : what_(std::move(what)) {
  for (const GgufSource& source : tensors) {
    if (by_name_.emplace(source.tensor->name, source).second) continue;
    Fail(ErrorCode::kCorruptInput, "{}: tensor {} is in two parts of the set", what_,
         Quoted(source.tensor->name));
  }
}

const GgufTensor* GgufTensors::Find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second.tensor;
}

GgufSource GgufTensors::Take(const std::string& name, const Shape& shape) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) Fail(ErrorCode::kCorruptInput, "{}: no tensor {}", what_, name);
  const GgufSource source = found->second;
  if (source.tensor->shape != shape) {
    Fail(ErrorCode::kCorruptInput, "{}: {} has shape [{}]; the metadata says [{}]", what_, name,
         fmt::join(source.tensor->shape, ", "), fmt::join(shape, ", "));
  }
  if (!CanDequantize(source.tensor->type)) {
    Fail(ErrorCode::kUnsupported,
         "{}: {} is {}; take a file with F32, F16, BF16, Q4_0 to Q8_0 or Q2_K to Q6_K", what_, name,
         Info(source.tensor->type).name);
  }
  by_name_.erase(found);
  return source;
}

void GgufTensors::ExpectNone() const {
  if (by_name_.empty()) return;
  std::string first = by_name_.begin()->first;
  for (const auto& [name, source] : by_name_) first = std::min(first, name);
  Fail(ErrorCode::kUnsupported, "{}: tensor {} has no place in a model of its architecture", what_,
       Quoted(first));
}

}  // namespace narrow
