#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "io/file.h"
#include "io/scratch_directory.h"

namespace narrow {
namespace {

// A file made by hand: the length prefix, the header as given, and `data_bytes` zeros.
std::string File(std::string_view header, int64_t data_bytes) {
  std::string file(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, 8);
  return file + std::string(header) + std::string(static_cast<std::size_t>(data_bytes), '\0');
}

std::string WithLength(uint64_t length, std::string_view rest) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + std::string(rest);
}

SafetensorsHeader Parse(const std::string& file) {
  return ParseSafetensorsHeader(file, static_cast<int64_t>(file.size()), "f.safetensors");
}

TEST(SafetensorsHeader, TakesNullForNoMetadata) {
  const std::string json =
      R"({"__metadata__":null,"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}})";
  const SafetensorsHeader header = Parse(File(json, 2));
  EXPECT_TRUE(header.metadata.empty());
  EXPECT_EQ(header.entries.size(), 1u);
}

TEST(SafetensorsHeader, ReadsEntriesInOrderOfPlace) {
  const std::string json = R"({"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},)"
                           R"("__metadata__":{"format":"pt","k":"v"},)"
                           R"("a":{"dtype":"BF16","shape":[],"data_offsets":[0,2],"later":1},)"
                           R"("e":{"dtype":"I64","shape":[0,9],"data_offsets":[2,2]},)"
                           R"("c":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[2,4]}}  )";
  const SafetensorsHeader header = Parse(File(json, 28));
  const auto start = static_cast<int64_t>(8 + json.size());
  EXPECT_EQ(header.header_bytes, start);
  EXPECT_EQ(header.metadata, (std::map<std::string, std::string>{{"format", "pt"}, {"k", "v"}}));
  ASSERT_EQ(header.entries.size(), 4u);
  EXPECT_EQ(header.entries[0].name, "a");
  EXPECT_EQ(header.entries[0].dtype, Dtype::kBF16);
  EXPECT_TRUE(header.entries[0].shape.empty());
  EXPECT_EQ(header.entries[0].begin, start);
  EXPECT_EQ(header.entries[1].name, "e");
  EXPECT_EQ(header.entries[1].bytes(), 0);
  EXPECT_EQ(header.entries[2].name, "c");
  EXPECT_EQ(header.entries[3].name, "b");
  EXPECT_EQ(header.entries[3].shape, (Shape{2, 3}));
  EXPECT_EQ(header.entries[3].end, start + 28);
}

TEST(SafetensorsHeader, EmptyFileOfTensors) { EXPECT_TRUE(Parse(File("{}", 0)).entries.empty()); }

struct Lie {
  const char* name;
  std::string file;
  const char* fragment;
};

void PrintTo(const Lie& lie, std::ostream* out) { *out << lie.name; }

class SafetensorsLies : public testing::TestWithParam<Lie> {};

TEST_P(SafetensorsLies, AreRefused) {
  ExpectError(ErrorCode::kCorruptInput, "f.safetensors", [&] { Parse(GetParam().file); });
  ExpectError(ErrorCode::kCorruptInput, GetParam().fragment, [&] { Parse(GetParam().file); });
  // The same through a file, which reads its bytes in another way.
  const ScratchDirectory scratch;
  const InputFile file(scratch.Put("f.safetensors", GetParam().file));
  ExpectError(ErrorCode::kCorruptInput, GetParam().fragment, [&] { ReadSafetensorsHeader(file); });
}

std::string One(std::string_view tensor, int64_t data_bytes) {
  return File(fmt::format(R"({{"a":{}}})", tensor), data_bytes);
}

std::string Two(std::string_view a, std::string_view b, int64_t data_bytes) {
  const auto tensor = [](std::string_view name, std::string_view offsets) {
    return fmt::format(R"("{}":{{"dtype":"U8","shape":[4],"data_offsets":[{}]}})", name, offsets);
  };
  return File(fmt::format("{{{},{}}}", tensor("a", a), tensor("b", b)), data_bytes);
}

const Lie kLies[] = {
    {"LfsPointer", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 976431816\n",
     "git lfs pull"},
    {"EmptyFile", "", "too few"},
    {"SevenBytes", "1234567", "too few"},
    {"LengthZero", WithLength(0, "{}"), "length 0"},
    {"LengthOne", WithLength(1, "{}"), "length 1"},
    {"LengthBeyondFile", WithLength(3, "{}"), "exceeds the file"},
    {"LengthSeven", WithLength(7, "{}"), "exceeds the file"},
    {"LengthOverLimit", WithLength(100'000'001, "{}"), "exceeds the limit"},
    {"LengthHuge", WithLength(UINT64_MAX, "{}"), "exceeds the limit"},
    {"LengthNegative", WithLength(uint64_t{1} << 63, "{}"), "exceeds the limit"},
    {"LengthCutsJson", WithLength(5, R"({"a":{}})"), "not valid JSON"},
    {"NotAnObject", File("[]", 0), "start with"},
    {"LeadingSpace", File(" {}", 0), "start with"},
    {"BrokenJson", File(R"({"a":)", 0), "not valid JSON"},
    {"BadUtf8", File("{\"\xC3\x28\":1}", 0), "UTF-8"},
    {"DeepJson", File("{\"a\":" + std::string(100'000, '['), 0), "nested deeper"},
    {"DuplicateName",
     File(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
          R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
          0),
     "twice"},
    {"MetadataNotObject", File(R"({"__metadata__":[]})", 0), "__metadata__"},
    {"MetadataNotStrings", File(R"({"__metadata__":{"a":1}})", 0), "not a string"},
    {"EntryNotObject", One("1", 0), "not an object"},
    {"NoDtype", One(R"({"shape":[],"data_offsets":[0,1]})", 1), "dtype is missing"},
    {"DtypeNotString", One(R"({"dtype":1,"shape":[],"data_offsets":[0,1]})", 1), "dtype"},
    {"UnknownDtype", One(R"({"dtype":"F12","shape":[],"data_offsets":[0,1]})", 1),
     "unknown dtype \"F12\""},
    {"WrongDtype", One(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4),
     "2 elements of F32 take 8 bytes, data_offsets give it 4"},
    {"NoShape", One(R"({"dtype":"U8","data_offsets":[0,1]})", 1), "shape is missing"},
    {"ShapeNotArray", One(R"({"dtype":"U8","shape":1,"data_offsets":[0,1]})", 1), "shape"},
    {"NegativeShape", One(R"({"dtype":"U8","shape":[-1],"data_offsets":[0,1]})", 1),
     "non-negative"},
    {"NegativeTwice", One(R"({"dtype":"U8","shape":[-1,-1],"data_offsets":[0,1]})", 1),
     "non-negative"},
    {"FractionalShape", One(R"({"dtype":"U8","shape":[1.0],"data_offsets":[0,1]})", 1),
     "non-negative integer"},
    {"TooLargeDimension",
     One(R"({"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]})", 1),
     "non-negative integer"},
    {"ProductOverflows",
     One(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0), "2^63"},
    {"BytesOverflow",
     One(R"({"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]})", 0), "2^63"},
    {"NoOffsets", One(R"({"dtype":"U8","shape":[1]})", 1), "data_offsets is missing"},
    {"ThreeOffsets", One(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,2]})", 1),
     "[begin, end]"},
    {"BackwardOffsets", One(R"({"dtype":"U8","shape":[1],"data_offsets":[1,0]})", 1),
     "begin <= end"},
    {"NegativeOffsets", One(R"({"dtype":"U8","shape":[1],"data_offsets":[-1,0]})", 1),
     "non-negative"},
    {"OffsetsOverflow",
     One(R"({"dtype":"U8","shape":[7],)"
         R"("data_offsets":[9223372036854775800,9223372036854775807]})",
         1),
     "overflow"},
    {"OutOfRange", One(R"({"dtype":"U8","shape":[8],"data_offsets":[0,8]})", 7),
     "truncated or damaged"},
    {"FarOutOfRange", One(R"({"dtype":"U8","shape":[1],"data_offsets":[1000000,1000001]})", 1),
     "truncated or damaged"},
    {"Overlap", Two("0,4", "3,7", 7), "\"a\" and \"b\" overlap"},
    {"SameRange", Two("0,4", "0,4", 4), "overlap"},
    {"Gap", Two("0,4", "5,9", 9), "1 bytes before tensor \"b\""},
    {"GapAtStart", Two("1,5", "5,9", 9), "before tensor \"a\""},
    {"TrailingBytes", Two("0,4", "4,8", 9), "1 bytes after the last tensor"},
    {"OnlyData", File("{}", 3), "3 bytes after"},
};

INSTANTIATE_TEST_SUITE_P(Safetensors, SafetensorsLies, testing::ValuesIn(kLies),
                         [](const auto& instance) { return std::string(instance.param.name); });

// Every prefix of a valid file is refused: there is no length at which truncation goes unnoticed.
TEST(SafetensorsHeader, EveryTruncationIsRefused) {
  const std::string file = Two("0,4", "4,8", 8);
  EXPECT_EQ(Parse(file).entries.size(), 2u);
  for (std::size_t size = 0; size < file.size(); ++size) {
    EXPECT_THROW(Parse(file.substr(0, size)), Error) << size;
  }
}

TEST(SafetensorsLayout, IsWhatTheParserReads) {
  const SafetensorsLayout layout = BuildSafetensorsLayout({{"w", Dtype::kF8E4M3, {3, 5}},
                                                           {"s\"\u00e9", Dtype::kF32, {}},
                                                           {"b", Dtype::kBF16, {2}},
                                                           {"a", Dtype::kF16, {2}},
                                                           {"z", Dtype::kI64, {1}}});
  EXPECT_EQ(layout.header.size() % 8, 0u);
  EXPECT_NE(layout.header.find(R"({"__metadata__":{"format":"pt"},"z":{"dtype":"I64","shape":[1],)"
                               R"("data_offsets":[0,8]},)"),
            std::string::npos);
  std::string names;
  for (const SafetensorsEntry& entry : layout.entries) names += entry.name + " ";
  EXPECT_EQ(names, "z s\"\u00e9 a b w ");

  const SafetensorsHeader header = ParseSafetensorsHeader(layout.header, layout.file_bytes, "f");
  EXPECT_EQ(header.metadata.at("format"), "pt");
  ASSERT_EQ(header.entries.size(), layout.entries.size());
  for (std::size_t i = 0; i < header.entries.size(); ++i) {
    EXPECT_EQ(header.entries[i].name, layout.entries[i].name);
    EXPECT_EQ(header.entries[i].dtype, layout.entries[i].dtype);
    EXPECT_EQ(header.entries[i].shape, layout.entries[i].shape);
    EXPECT_EQ(header.entries[i].begin, layout.entries[i].begin);
    EXPECT_EQ(header.entries[i].end, layout.entries[i].end);
  }
}

}  // namespace
}  // namespace narrow
