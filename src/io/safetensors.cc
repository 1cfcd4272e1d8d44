#include "io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <optional>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "io/json.h"

namespace narrow {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kHeaderAlignment = 8;
constexpr int kMaxHeaderDepth = 4;
constexpr std::string_view kLfsPointer = "version https://git-lfs";
constexpr std::string_view kMetadataKey = "__metadata__";

template <typename... Args>
[[noreturn]] void FailFile(std::string_view what, fmt::format_string<Args...> format,
                           Args&&... args) {
  Fail(ErrorCode::kCorruptInput, "{}: {}", what, fmt::format(format, std::forward<Args>(args)...));
}

// Length of the JSON, checked against the limit and the file.
int64_t CheckedHeaderLength(std::string_view prefix, int64_t file_bytes, std::string_view what) {
  if (prefix.starts_with(kLfsPointer)) {
    FailFile(what,
             "a git-lfs pointer instead of the weights; run \"git lfs pull\" in the model "
             "directory");
  }
  if (file_bytes < kLengthBytes || static_cast<int64_t>(prefix.size()) < kLengthBytes) {
    FailFile(what, "{} bytes are too few for a safetensors file", file_bytes);
  }
  uint64_t length = 0;
  std::memcpy(&length, prefix.data(), kLengthBytes);
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes)) {
    FailFile(what, "header length {} exceeds the limit of {}: not a safetensors file, or damaged",
             length, kMaxSafetensorsHeaderBytes);
  }
  const auto checked = static_cast<int64_t>(length);
  if (checked > file_bytes - kLengthBytes) {
    FailFile(what, "header length {} exceeds the file of {} bytes: truncated or damaged", checked,
             file_bytes);
  }
  if (checked < 2) FailFile(what, "header length {} is too small for any header", checked);
  return checked;
}

std::map<std::string, std::string> ParseMetadata(const Json& value, std::string_view what) {
  if (value.is_null()) return {};  // as the reference implementation takes it: none
  if (!value.is_object()) FailFile(what, "{} is not an object", kMetadataKey);
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) FailFile(what, "{} holds a value that is not a string", kMetadataKey);
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

std::optional<int64_t> AsCount(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<uint64_t>();
  if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<int64_t>(number);
}

// An array of integers from 0 to 2^63 - 1.
std::vector<int64_t> ParseCounts(const Json& info, const std::string& key, const std::string& name,
                                 std::string_view what) {
  const auto found = info.find(key);
  if (found == info.end() || !found->is_array()) {
    FailFile(what, "tensor {}: {} is missing or not an array", Quoted(name), key);
  }
  std::vector<int64_t> counts;
  counts.reserve(found->size());
  for (const Json& value : *found) {
    const std::optional<int64_t> count = AsCount(value);
    if (!count) {
      FailFile(what, "tensor {}: {} holds a value that is not a non-negative integer", Quoted(name),
               key);
    }
    counts.push_back(*count);
  }
  return counts;
}

// One member of the header; `data_start` is the length of everything before the tensors.
SafetensorsEntry ParseEntry(const std::string& name, const Json& info, int64_t data_start,
                            std::string_view what) {
  if (!info.is_object())
    FailFile(what, "tensor {}: its description is not an object", Quoted(name));
  SafetensorsEntry entry;
  entry.name = name;
  const auto dtype = info.find("dtype");
  if (dtype == info.end() || !dtype->is_string()) {
    FailFile(what, "tensor {}: dtype is missing or not a string", Quoted(name));
  }
  const auto& dtype_name = dtype->get_ref<const std::string&>();
  const std::optional<Dtype> known = DtypeFromName(dtype_name);
  if (!known) FailFile(what, "tensor {}: unknown dtype {}", Quoted(name), Quoted(dtype_name));
  entry.dtype = *known;
  entry.shape = ParseCounts(info, "shape", name, what);
  const std::vector<int64_t> offsets = ParseCounts(info, "data_offsets", name, what);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    FailFile(what, "tensor {}: data_offsets should be [begin, end] with begin <= end",
             Quoted(name));
  }
  const std::optional<int64_t> elements = CheckedProduct(entry.shape);
  const std::optional<int64_t> bytes =
      elements ? CheckedMultiply(*elements, ElementBytes(entry.dtype)) : std::nullopt;
  if (!bytes) FailFile(what, "tensor {}: its shape has more than 2^63 bytes", Quoted(name));
  if (*bytes != offsets[1] - offsets[0]) {
    FailFile(what, "tensor {}: {} elements of {} take {} bytes, data_offsets give it {}",
             Quoted(name), *elements, dtype_name, *bytes, offsets[1] - offsets[0]);
  }
  const std::optional<int64_t> end = CheckedAdd(offsets[1], data_start);
  if (!end) FailFile(what, "tensor {}: data_offsets overflow", Quoted(name));
  entry.begin = offsets[0] + data_start;
  entry.end = *end;
  return entry;
}

// The tensors must tile the data without gaps, as the reference implementation demands.
void CheckTiling(const SafetensorsHeader& header, int64_t file_bytes, std::string_view what) {
  int64_t covered = header.header_bytes;
  const SafetensorsEntry* previous = nullptr;
  for (const SafetensorsEntry& entry : header.entries) {
    if (entry.end > file_bytes) {
      FailFile(what, "tensor {} ends at byte {}, the file has {}: truncated or damaged",
               Quoted(entry.name), entry.end, file_bytes);
    }
    if (entry.begin < covered) {
      NARROW_CHECK(previous != nullptr);
      FailFile(what, "tensors {} and {} overlap", Quoted(previous->name), Quoted(entry.name));
    }
    if (entry.begin > covered) {
      FailFile(what, "{} bytes before tensor {} belong to no tensor", entry.begin - covered,
               Quoted(entry.name));
    }
    covered = entry.end;
    previous = &entry;
  }
  if (covered != file_bytes) {
    FailFile(what, "{} bytes after the last tensor belong to no tensor", file_bytes - covered);
  }
}

}  // namespace

SafetensorsHeader ParseSafetensorsHeader(std::string_view prefix, int64_t file_bytes,
                                         std::string_view what) {
  const int64_t length = CheckedHeaderLength(prefix, file_bytes, what);
  NARROW_CHECK(static_cast<int64_t>(prefix.size()) - kLengthBytes >= length);
  const std::string_view text = prefix.substr(kLengthBytes, static_cast<std::size_t>(length));
  if (text.front() != '{') FailFile(what, "the header does not start with '{{'");
  const JsonLimits limits{.max_depth = kMaxHeaderDepth,
                          .max_bytes = kMaxSafetensorsHeaderBytes,
                          .non_finite = NonFinite::kRefused};
  const Json json = ParseJson(text, fmt::format("{} (header)", what), limits);

  SafetensorsHeader header;
  header.header_bytes = kLengthBytes + length;
  for (const auto& [name, info] : json.items()) {
    if (name == kMetadataKey) {
      header.metadata = ParseMetadata(info, what);
    } else {
      header.entries.push_back(ParseEntry(name, info, header.header_bytes, what));
    }
  }
  std::sort(header.entries.begin(), header.entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
            });
  CheckTiling(header, file_bytes, what);
  return header;
}

SafetensorsHeader ReadSafetensorsHeader(const ByteSource& file) {
  const std::string what = file.path().string();
  std::string prefix(
      static_cast<std::size_t>(std::min(file.size(), static_cast<int64_t>(kLfsPointer.size()))),
      '\0');
  file.ReadAt(0, std::as_writable_bytes(std::span(prefix)));
  const int64_t length = CheckedHeaderLength(prefix, file.size(), what);
  prefix.resize(static_cast<std::size_t>(kLengthBytes + length));
  file.ReadAt(0, std::as_writable_bytes(std::span(prefix)));
  return ParseSafetensorsHeader(prefix, file.size(), what);
}

int64_t TensorSpec::bytes() const {
  const std::optional<int64_t> elements = CheckedProduct(shape);
  NARROW_CHECK(elements.has_value());
  const std::optional<int64_t> bytes = CheckedMultiply(*elements, ElementBytes(dtype));
  NARROW_CHECK(bytes.has_value());
  return *bytes;
}

SafetensorsLayout BuildSafetensorsLayout(std::vector<TensorSpec> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return std::pair(-ElementBytes(a.dtype), std::string_view(a.name)) <
           std::pair(-ElementBytes(b.dtype), std::string_view(b.name));
  });
  SafetensorsLayout layout;
  std::string json = R"({"__metadata__":{"format":"pt"})";
  int64_t offset = 0;
  for (TensorSpec& tensor : tensors) {
    NARROW_CHECK(tensor.name != kMetadataKey);
    const int64_t end = offset + tensor.bytes();
    fmt::format_to(
        std::back_inserter(json), R"(,{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
        JsonLiteral(tensor.name), Name(tensor.dtype), Json(tensor.shape).dump(), offset, end);
    layout.entries.push_back({.name = std::move(tensor.name),
                              .dtype = tensor.dtype,
                              .shape = std::move(tensor.shape),
                              .begin = offset,
                              .end = end});
    offset = end;
  }
  json += '}';
  json.resize(
      static_cast<std::size_t>(RoundUp(static_cast<int64_t>(json.size()), kHeaderAlignment)), ' ');
  const auto length = static_cast<uint64_t>(json.size());
  layout.header.resize(kLengthBytes);
  std::memcpy(layout.header.data(), &length, kLengthBytes);
  layout.header += json;
  const auto data_start = static_cast<int64_t>(layout.header.size());
  for (SafetensorsEntry& entry : layout.entries) {
    entry.begin += data_start;
    entry.end += data_start;
  }
  layout.file_bytes = data_start + offset;
  return layout;
}

}  // namespace narrow
