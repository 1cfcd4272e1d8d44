#include "io/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "io/json.h"

namespace narrow {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr int64_t kBufferBytes = 64 << 10;
constexpr int64_t kMaxKeyBytes = 65535;
constexpr int64_t kMaxNameBytes = 64;
constexpr uint32_t kMaxRank = 4;
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kMaxAlignment = int64_t{1} << 20;
constexpr int64_t kMinTensorInfoBytes = 8 + 4 + 8 + 4 + 8;
constexpr int64_t kMinPairBytes = 8 + 4 + 1;

constexpr std::array kTypes = {
    GgufTypeInfo{GgufType::kF32, "F32", 1, 4},
    GgufTypeInfo{GgufType::kF16, "F16", 1, 2},
    GgufTypeInfo{GgufType::kQ4_0, "Q4_0", 32, 18},
    GgufTypeInfo{GgufType::kQ4_1, "Q4_1", 32, 20},
    GgufTypeInfo{GgufType::kQ5_0, "Q5_0", 32, 22},
    GgufTypeInfo{GgufType::kQ5_1, "Q5_1", 32, 24},
    GgufTypeInfo{GgufType::kQ8_0, "Q8_0", 32, 34},
    GgufTypeInfo{GgufType::kQ8_1, "Q8_1", 32, 36},
    GgufTypeInfo{GgufType::kQ2_K, "Q2_K", 256, 84},
    GgufTypeInfo{GgufType::kQ3_K, "Q3_K", 256, 110},
    GgufTypeInfo{GgufType::kQ4_K, "Q4_K", 256, 144},
    GgufTypeInfo{GgufType::kQ5_K, "Q5_K", 256, 176},
    GgufTypeInfo{GgufType::kQ6_K, "Q6_K", 256, 210},
    GgufTypeInfo{GgufType::kQ8_K, "Q8_K", 256, 292},
    GgufTypeInfo{GgufType::kIQ2_XXS, "IQ2_XXS", 256, 66},
    GgufTypeInfo{GgufType::kIQ2_XS, "IQ2_XS", 256, 74},
    GgufTypeInfo{GgufType::kIQ3_XXS, "IQ3_XXS", 256, 98},
    GgufTypeInfo{GgufType::kIQ1_S, "IQ1_S", 256, 50},
    GgufTypeInfo{GgufType::kIQ4_NL, "IQ4_NL", 32, 18},
    GgufTypeInfo{GgufType::kIQ3_S, "IQ3_S", 256, 110},
    GgufTypeInfo{GgufType::kIQ2_S, "IQ2_S", 256, 82},
    GgufTypeInfo{GgufType::kIQ4_XS, "IQ4_XS", 256, 136},
    GgufTypeInfo{GgufType::kI8, "I8", 1, 1},
    GgufTypeInfo{GgufType::kI16, "I16", 1, 2},
    GgufTypeInfo{GgufType::kI32, "I32", 1, 4},
    GgufTypeInfo{GgufType::kI64, "I64", 1, 8},
    GgufTypeInfo{GgufType::kF64, "F64", 1, 8},
    GgufTypeInfo{GgufType::kIQ1_M, "IQ1_M", 256, 56},
    GgufTypeInfo{GgufType::kBF16, "BF16", 1, 2},
    GgufTypeInfo{GgufType::kTQ1_0, "TQ1_0", 256, 54},
    GgufTypeInfo{GgufType::kTQ2_0, "TQ2_0", 256, 66},
    GgufTypeInfo{GgufType::kMXFP4, "MXFP4", 32, 17},
};

const GgufTypeInfo* FindType(uint32_t number) {
  const auto* found = std::ranges::find_if(
      kTypes, [&](const GgufTypeInfo& info) { return static_cast<uint32_t>(info.type) == number; });
  return found == kTypes.end() ? nullptr : found;
}

// Types of metadata values, by their number in the file.
enum class ValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// Reads forward through the header and refuses to leave the file or the limit.
class Cursor {
 public:
  Cursor(const GgufReadAt& read, int64_t file_bytes, std::string_view what)
      : read_(read), end_(std::min(file_bytes, kMaxGgufHeaderBytes)), what_(what) {}

  int64_t offset() const { return offset_; }

  template <typename... Args>
  [[noreturn]] void FailFile(fmt::format_string<Args...> format, Args&&... args) const {
    Fail(ErrorCode::kCorruptInput, "{}: {}", what_,
         fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  [[noreturn]] void FailUnsupported(fmt::format_string<Args...> format, Args&&... args) const {
    Fail(ErrorCode::kUnsupported, "{}: {}", what_,
         fmt::format(format, std::forward<Args>(args)...));
  }

  template <typename T>
  T Number() {
    T value;
    Bytes(std::as_writable_bytes(std::span(&value, 1)), "a number");
    return value;
  }

  // A count of things that take at least `item_bytes` each in what is left of the header.
  int64_t Count(int64_t item_bytes, std::string_view of) {
    const auto count = Number<uint64_t>();
    const int64_t most = (end_ - offset_) / item_bytes;
    if (count > static_cast<uint64_t>(most)) {
      FailFile("claims {} {} where at most {} fit: truncated or damaged", count, of, most);
    }
    return static_cast<int64_t>(count);
  }

  std::string String(int64_t max_bytes, std::string_view of) {
    const int64_t length = Count(1, of);
    if (length > max_bytes) FailFile("{} is {}, at most {} are valid", of, length, max_bytes);
    std::string text(static_cast<std::size_t>(length), '\0');
    Bytes(std::as_writable_bytes(std::span(text)), of);
    return text;
  }

 private:
  void Bytes(std::span<std::byte> bytes, std::string_view of) {
    const auto count = static_cast<int64_t>(bytes.size());
    if (count > end_ - offset_) {
      FailFile("ends inside {} at byte {}: truncated or damaged", of, end_);
    }
    if (offset_ < buffer_begin_ || offset_ + count > buffer_begin_ + BufferSize()) {
      if (count >= kBufferBytes) {
        read_(offset_, bytes);
        offset_ += count;
        return;
      }
      buffer_.resize(static_cast<std::size_t>(std::min(kBufferBytes, end_ - offset_)));
      buffer_begin_ = offset_;
      read_(offset_, buffer_);
    }
    if (count > 0)
      std::memcpy(bytes.data(), buffer_.data() + (offset_ - buffer_begin_), bytes.size());
    offset_ += count;
  }
  int64_t BufferSize() const { return static_cast<int64_t>(buffer_.size()); }

  const GgufReadAt& read_;
  int64_t end_;
  std::string_view what_;
  int64_t offset_ = 0;
  int64_t buffer_begin_ = 0;
  std::vector<std::byte> buffer_;
};

bool ReadBool(Cursor& cursor, const std::string& key) {
  const auto value = cursor.Number<uint8_t>();
  if (value > 1) cursor.FailFile("metadata {}: {} is not a boolean", Quoted(key), value);
  return value == 1;
}

// An integer of any type that int64_t holds, or nothing when `type` is no integer.
std::optional<int64_t> ReadInteger(Cursor& cursor, ValueType type, const std::string& key) {
  switch (type) {
    case ValueType::kU8:
      return cursor.Number<uint8_t>();
    case ValueType::kI8:
      return cursor.Number<int8_t>();
    case ValueType::kU16:
      return cursor.Number<uint16_t>();
    case ValueType::kI16:
      return cursor.Number<int16_t>();
    case ValueType::kU32:
      return cursor.Number<uint32_t>();
    case ValueType::kI32:
      return cursor.Number<int32_t>();
    case ValueType::kI64:
      return cursor.Number<int64_t>();
    case ValueType::kBool:
      return ReadBool(cursor, key);
    default:
      return std::nullopt;
  }
}

int64_t ValueBytes(Cursor& cursor, ValueType type, const std::string& key) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
    case ValueType::kString:  // its length
      return 8;
    case ValueType::kArray:
      return 12;
  }
  cursor.FailFile("metadata {} has the unknown value type {}", Quoted(key),
                  static_cast<uint32_t>(type));
}

GgufValue ReadArray(Cursor& cursor, const std::string& key) {
  const auto type = static_cast<ValueType>(cursor.Number<uint32_t>());
  const int64_t count = cursor.Count(ValueBytes(cursor, type, key), "array elements");
  if (type == ValueType::kArray) {
    cursor.FailUnsupported("metadata {} is an array of arrays, which nothing here needs",
                           Quoted(key));
  }
  const auto fill = [&]<typename T>(std::vector<T> values, auto next) -> GgufValue {
    values.reserve(static_cast<std::size_t>(count));
    for (int64_t i = 0; i < count; ++i) values.push_back(next());
    return values;
  };
  if (type == ValueType::kString) {
    return fill(std::vector<std::string>(),
                [&] { return cursor.String(kMaxGgufHeaderBytes, "string bytes"); });
  }
  if (type == ValueType::kF32) {
    return fill(std::vector<double>(), [&] { return double{cursor.Number<float>()}; });
  }
  if (type == ValueType::kF64) {
    return fill(std::vector<double>(), [&] { return cursor.Number<double>(); });
  }
  return fill(std::vector<int64_t>(), [&]() -> int64_t {
    if (type != ValueType::kU64) return *ReadInteger(cursor, type, key);
    const auto value = cursor.Number<uint64_t>();
    if (value > static_cast<uint64_t>(INT64_MAX)) {
      cursor.FailUnsupported("metadata {} holds {}, beyond 2^63", Quoted(key), value);
    }
    return static_cast<int64_t>(value);
  });
}

GgufValue ReadValue(Cursor& cursor, const std::string& key) {
  const auto type = static_cast<ValueType>(cursor.Number<uint32_t>());
  ValueBytes(cursor, type, key);  // refuses unknown types
  if (type == ValueType::kBool) return ReadBool(cursor, key);
  if (const auto integer = ReadInteger(cursor, type, key)) return *integer;
  if (type == ValueType::kF32) return double{cursor.Number<float>()};
  if (type == ValueType::kF64) return cursor.Number<double>();
  if (type == ValueType::kString) return cursor.String(kMaxGgufHeaderBytes, "string bytes");
  if (type == ValueType::kArray) return ReadArray(cursor, key);
  const auto value = cursor.Number<uint64_t>();
  if (value > static_cast<uint64_t>(INT64_MAX)) return value;
  return static_cast<int64_t>(value);
}

void CheckVersion(Cursor& cursor, uint32_t version) {
  if (version == 2 || version == 3) return;
  if (version != 0 && (version & 0xFFFFu) == 0) {
    cursor.FailUnsupported("a big-endian GGUF file; convert it to little-endian first");
  }
  if (version == 1) cursor.FailUnsupported("GGUF version 1 is not supported; expected 2 or 3");
  cursor.FailUnsupported("GGUF version {} is not supported; expected 2 or 3", version);
}

int64_t Alignment(Cursor& cursor, const GgufHeader& header) {
  const auto found = header.metadata.find("general.alignment");
  if (found == header.metadata.end()) return kDefaultAlignment;
  const auto* value = std::get_if<int64_t>(&found->second);
  if (value == nullptr || *value <= 0 || *value > kMaxAlignment || *value % 8 != 0) {
    cursor.FailFile("general.alignment should be a multiple of 8 from 8 to {}", kMaxAlignment);
  }
  return *value;
}

// One row of the directory; `begin` and `end` are still relative to the start of the data.
GgufTensor ReadTensorInfo(Cursor& cursor) {
  GgufTensor tensor;
  tensor.name = cursor.String(kMaxNameBytes, "bytes of a tensor name");
  const std::string quoted = Quoted(tensor.name);
  const auto rank = cursor.Number<uint32_t>();
  if (rank == 0 || rank > kMaxRank) {
    cursor.FailFile("tensor {} has {} dimensions, expected 1 to {}", quoted, rank, kMaxRank);
  }
  for (uint32_t i = 0; i < rank; ++i) {
    const auto dimension = cursor.Number<uint64_t>();
    if (dimension == 0 || dimension > static_cast<uint64_t>(INT64_MAX)) {
      cursor.FailFile("tensor {} has a dimension of {}", quoted, dimension);
    }
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(dimension));
  }
  const auto number = cursor.Number<uint32_t>();
  const GgufTypeInfo* type = FindType(number);
  if (type == nullptr) {
    cursor.FailUnsupported("tensor {} has type number {}, which this build does not know", quoted,
                           number);
  }
  tensor.type = type->type;
  if (tensor.shape.back() % type->block_elements != 0) {
    cursor.FailFile("tensor {} has rows of {} elements, no whole number of {} blocks of {}", quoted,
                    tensor.shape.back(), type->name, type->block_elements);
  }
  const std::optional<int64_t> elements = CheckedProduct(tensor.shape);
  const std::optional<int64_t> bytes =
      elements ? CheckedMultiply(*elements / type->block_elements, type->block_bytes)
               : std::nullopt;
  const auto offset = cursor.Number<uint64_t>();
  if (!bytes || offset > static_cast<uint64_t>(INT64_MAX) ||
      !CheckedAdd(static_cast<int64_t>(offset), *bytes)) {
    cursor.FailFile("tensor {} has an offset or shape of more than 2^63 bytes", quoted);
  }
  tensor.begin = static_cast<int64_t>(offset);
  tensor.end = tensor.begin + *bytes;
  return tensor;
}

// Makes the offsets absolute. Padding may separate tensors; nothing may be shared.
void PlaceTensors(Cursor& cursor, GgufHeader& header, int64_t file_bytes) {
  const int64_t alignment = Alignment(cursor, header);
  const int64_t data_begin = RoundUp(cursor.offset(), alignment);
  std::ranges::sort(header.tensors, {}, &GgufTensor::begin);
  const GgufTensor* previous = nullptr;
  for (GgufTensor& tensor : header.tensors) {
    if (tensor.begin % alignment != 0) {
      cursor.FailFile("tensor {} has offset {}, no multiple of the alignment {}",
                      Quoted(tensor.name), tensor.begin, alignment);
    }
    if (data_begin > file_bytes || tensor.end > file_bytes - data_begin) {
      cursor.FailFile(
          "tensor {} ends {} bytes into the data, the file of {} has fewer: truncated "
          "or damaged",
          Quoted(tensor.name), tensor.end, file_bytes);
    }
    tensor.begin += data_begin;
    tensor.end += data_begin;
    if (previous != nullptr && tensor.begin < previous->end) {
      cursor.FailFile("tensors {} and {} overlap", Quoted(previous->name), Quoted(tensor.name));
    }
    previous = &tensor;
  }
}

}  // namespace

const GgufTypeInfo& Info(GgufType type) {
  const GgufTypeInfo* info = FindType(static_cast<uint32_t>(type));
  NARROW_CHECK(info != nullptr);
  return *info;
}

GgufHeader ParseGguf(const GgufReadAt& read, int64_t file_bytes, std::string_view what) {
  Cursor cursor(read, file_bytes, what);
  if (file_bytes < 8 || cursor.Number<uint32_t>() != kMagic) {
    cursor.FailFile("not a GGUF file: it does not start with \"GGUF\"");
  }
  GgufHeader header;
  header.version = cursor.Number<uint32_t>();
  CheckVersion(cursor, header.version);
  const int64_t tensor_count = cursor.Count(kMinTensorInfoBytes, "tensors");
  const int64_t pair_count = cursor.Count(kMinPairBytes, "metadata pairs");
  for (int64_t i = 0; i < pair_count; ++i) {
    const std::string key = cursor.String(kMaxKeyBytes, "bytes of a metadata key");
    if (!header.metadata.emplace(key, ReadValue(cursor, key)).second) {
      cursor.FailFile("metadata key {} appears twice", Quoted(key));
    }
  }
  std::set<std::string_view> names;
  header.tensors.reserve(static_cast<std::size_t>(tensor_count));
  for (int64_t i = 0; i < tensor_count; ++i) {
    header.tensors.push_back(ReadTensorInfo(cursor));
    if (!names.insert(header.tensors.back().name).second) {
      cursor.FailFile("tensor {} appears twice", Quoted(header.tensors.back().name));
    }
  }
  PlaceTensors(cursor, header, file_bytes);
  return header;
}

GgufHeader ReadGguf(const InputFile& file) {
  return ParseGguf([&](int64_t offset, std::span<std::byte> bytes) { file.ReadAt(offset, bytes); },
                   file.size(), file.path().string());
}

}  // namespace narrow
