#include "io/gguf.h"

#include <gtest/gtest.h>

#include <limits>

#include "io/gguf_builder.h"
#include "io/scratch_directory.h"

namespace narrow {
namespace {

GgufHeader Parse(const std::string& file) {
  const auto read = [&](int64_t offset, std::span<std::byte> bytes) {
    NARROW_CHECK(offset >= 0 && offset + std::ssize(bytes) <= std::ssize(file));
    std::memcpy(bytes.data(), file.data() + offset, bytes.size());
  };
  return ParseGguf(read, std::ssize(file), "f.gguf");
}

GgufBuilder Pair(uint32_t type, std::string_view bytes) {
  return GgufBuilder().Pair("k", type, bytes);
}

TEST(Gguf, ReadsEveryKindOfValue) {
  const GgufHeader header = Parse(GgufBuilder()
                                      .Pair("u8", 0, "\xFF")
                                      .Pair("i8", 1, "\xFF")
                                      .Pair("u16", 2, "\xFF\xFF")
                                      .Pair("i16", 3, "\xFE\xFF")
                                      .U32("u32", 4000000000u)
                                      .Pair("i32", 5, GgufBuilder::Raw(int32_t{-7}))
                                      .F32("f32", 0.5f)
                                      .Bool("bool", 1)
                                      .Text("text", "a\nb")
                                      .Texts("texts", {"x", "", "z"})
                                      .Numbers<int32_t>("ints", {-1, 2})
                                      .Numbers<float>("floats", {1.5f})
                                      .Pair("u64", 10, GgufBuilder::Raw(UINT64_MAX))
                                      .Pair("small u64", 10, GgufBuilder::Raw(uint64_t{5}))
                                      .Pair("i64", 11, GgufBuilder::Raw(int64_t{-9}))
                                      .Pair("f64", 12, GgufBuilder::Raw(0.1))
                                      .Build());
  const auto& map = header.metadata;
  EXPECT_EQ(map.at("u8"), GgufValue(int64_t{255}));
  EXPECT_EQ(map.at("i8"), GgufValue(int64_t{-1}));
  EXPECT_EQ(map.at("u16"), GgufValue(int64_t{65535}));
  EXPECT_EQ(map.at("i16"), GgufValue(int64_t{-2}));
  EXPECT_EQ(map.at("u32"), GgufValue(int64_t{4000000000}));
  EXPECT_EQ(map.at("i32"), GgufValue(int64_t{-7}));
  EXPECT_EQ(map.at("f32"), GgufValue(0.5));
  EXPECT_EQ(map.at("bool"), GgufValue(true));
  EXPECT_EQ(map.at("text"), GgufValue(std::string("a\nb")));
  EXPECT_EQ(map.at("texts"), GgufValue(std::vector<std::string>{"x", "", "z"}));
  EXPECT_EQ(map.at("ints"), GgufValue(std::vector<int64_t>{-1, 2}));
  EXPECT_EQ(map.at("floats"), GgufValue(std::vector<double>{1.5}));
  EXPECT_EQ(map.at("u64"), GgufValue(uint64_t{UINT64_MAX}));
  EXPECT_EQ(map.at("small u64"), GgufValue(int64_t{5}));
  EXPECT_EQ(map.at("i64"), GgufValue(int64_t{-9}));
  EXPECT_EQ(map.at("f64"), GgufValue(0.1));
}

TEST(Gguf, ReadsTensorsInOrderOfPlaceAndTurnsShapesAround) {
  GgufBuilder builder;
  builder.version = 2;
  builder.alignment = 64;
  builder.U32("general.alignment", 64);
  builder.Info("late", {32, 2}, 8, 64).Info("early", {3}, 0, 0).Data(std::string(64 + 68, 'x'));
  const std::string file = builder.Build();
  const GgufHeader header = Parse(file);
  EXPECT_EQ(header.version, 2u);
  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].name, "early");
  EXPECT_EQ(header.tensors[0].bytes(), 12);
  EXPECT_EQ(header.tensors[0].begin % 64, 0);
  EXPECT_EQ(header.tensors[1].shape, (Shape{2, 32}));
  EXPECT_EQ(header.tensors[1].type, GgufType::kQ8_0);
  EXPECT_EQ(header.tensors[1].bytes(), 68);
  EXPECT_EQ(header.tensors[1].end, std::ssize(file));
  const ScratchDirectory scratch;
  EXPECT_EQ(ReadGguf(InputFile(scratch.Put("f.gguf", file))).tensors[1].begin,
            header.tensors[1].begin);
}

// Strings longer than the buffer, and many that cross its edges.
TEST(Gguf, ReadsAcrossItsBuffer) {
  std::vector<std::string> texts;
  for (int i = 0; i < 5000; ++i)
    texts.push_back(std::string(i % 97, static_cast<char>('a' + i % 26)));
  texts.push_back(std::string(300000, 'q'));
  texts.push_back("end");
  const GgufHeader header = Parse(GgufBuilder().Texts("t", texts).U32("n", 1).Build());
  EXPECT_EQ(std::get<std::vector<std::string>>(header.metadata.at("t")), texts);
  EXPECT_EQ(header.metadata.at("n"), GgufValue(int64_t{1}));
}

struct Lie {
  const char* name;
  std::string file;
  const char* fragment;
  ErrorCode code = ErrorCode::kCorruptInput;
};
void PrintTo(const Lie& lie, std::ostream* out) { *out << lie.name; }

class GgufLies : public testing::TestWithParam<Lie> {};

TEST_P(GgufLies, AreRefused) {
  ExpectError(GetParam().code, GetParam().fragment, [&] { Parse(GetParam().file); });
  ExpectError(GetParam().code, "f.gguf", [&] { Parse(GetParam().file); });
}

GgufBuilder One(const std::vector<uint64_t>& dimensions, uint32_t type, uint64_t offset = 0) {
  return GgufBuilder().Info("t", dimensions, type, offset).Data(std::string(128, 'x'));
}

GgufBuilder Claiming(int64_t tensors, int64_t pairs) {
  GgufBuilder builder;
  builder.extra_tensors = tensors;
  builder.extra_pairs = pairs;
  return builder;
}

GgufBuilder OfVersion(uint32_t version) {
  GgufBuilder builder;
  builder.version = version;
  return builder;
}

std::string Array(uint32_t type, uint64_t count, std::string_view elements) {
  return GgufBuilder::Raw(type) + GgufBuilder::Raw(count) + std::string(elements);
}

std::vector<Lie> Lies() {
  using B = GgufBuilder;
  constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
  const std::string whole = One({4}, 0).U32("k", 1).Build();
  std::vector<Lie> lies = {
      {"Empty", "", "not a GGUF file"},
      {"Magic", "GGML" + std::string(40, '\0'), "not a GGUF file"},
      {"LfsPointer", "version https://git-lfs.github.com/spec/v1\n", "not a GGUF file"},
      {"Version1", OfVersion(1).Build(), "version 1", ErrorCode::kUnsupported},
      {"Version4", OfVersion(4).Build(), "version 4", ErrorCode::kUnsupported},
      {"BigEndian", OfVersion(0x03000000).Build(), "big-endian", ErrorCode::kUnsupported},
      {"TensorCount", Claiming(1, 0).Build(), "claims 1 tensors"},
      {"HugeTensorCount", Claiming(-1, 0).Build(), "claims 18446744073709551615 tensors"},
      {"PairCount", Claiming(0, int64_t{1} << 40).Build(), "metadata pairs"},
      {"StringLength", Pair(8, B::Raw(uint64_t{1} << 62)).Build(), "string bytes"},
      {"KeyLength", B().U32(std::string(65536, 'k'), 1).Build(), "at most 65535"},
      {"ArrayCount", Pair(9, Array(4, uint64_t{1} << 61, "")).Build(), "array elements"},
      {"HugeArrayCount", Pair(9, Array(8, kHuge, "")).Build(), "array elements"},
      {"ArrayType", Pair(9, Array(13, 0, "")).Build(), "unknown value type 13"},
      {"NestedArray", Pair(9, Array(9, 1, Array(4, 0, ""))).Build(), "array of arrays",
       ErrorCode::kUnsupported},
      {"ValueType", Pair(99, "12345678").Build(), "unknown value type 99"},
      {"Boolean", B().Bool("k", 2).Build(), "not a boolean"},
      {"BooleanArray", Pair(9, Array(7, 1, "\x03")).Build(), "not a boolean"},
      {"DuplicateKey", B().U32("k", 1).U32("k", 2).Build(), "\"k\" appears twice"},
      {"DuplicateTensor", One({4}, 0).Info("t", {4}, 0, 32).Build(), "\"t\" appears twice"},
      {"NameLength", B().Info(std::string(65, 'n'), {4}, 0, 0).Build(), "at most 64"},
      {"NoDimensions", One({}, 0).Build(), "0 dimensions"},
      {"FiveDimensions", One({1, 1, 1, 1, 1}, 0).Build(), "5 dimensions"},
      {"ZeroDimension", One({4, 0}, 0).Build(), "a dimension of 0"},
      {"HugeDimension", One({kHuge}, 0).Build(), "a dimension of"},
      {"Overflow", One({1u << 31, 1u << 31, 4}, 0).Build(), "more than 2^63"},
      {"OffsetOverflow", One({4}, 0, kHuge - 31).Build(), "more than 2^63"},
      {"EndOverflow", One({4}, 0, (uint64_t{1} << 63) - 32 + 16).Build(), "more than 2^63"},
      {"UnknownTensorType", One({4}, 77).Build(), "type number 77", ErrorCode::kUnsupported},
      {"RemovedTensorType", One({32}, 4).Build(), "type number 4", ErrorCode::kUnsupported},
      {"PartOfABlock", One({33}, 8).Build(), "whole number of Q8_0 blocks"},
      {"Misaligned", One({4}, 0, 8).Build(), "no multiple of the alignment 32"},
      {"OutOfRange", One({4}, 0, 128).Build(), "ends 144 bytes into the data"},
      {"TooLong", One({33}, 0).Build(), "ends 132 bytes into the data"},
      {"Overlap", One({16}, 0).Info("u", {4}, 0, 32).Build(), "\"t\" and \"u\" overlap"},
      {"SamePlace", One({4}, 0).Info("u", {4}, 0, 0).Build(), "overlap"},
      {"NoData", B().Info("t", {4}, 0, 0).Build(), "truncated"},
      {"ZeroAlignment", One({4}, 0).U32("general.alignment", 0).Build(), "general.alignment"},
      {"OddAlignment", One({4}, 0).U32("general.alignment", 12).Build(), "general.alignment"},
      {"HugeAlignment", One({4}, 0).U32("general.alignment", 1u << 31).Build(), "alignment"},
      {"TextAlignment", One({4}, 0).Text("general.alignment", "32").Build(), "alignment"},
  };
  return lies;
}

INSTANTIATE_TEST_SUITE_P(Gguf, GgufLies, testing::ValuesIn(Lies()),
                         [](const auto& lie) { return std::string(lie.param.name); });

// Every prefix of a file is refused: nothing reads past the end, nothing is taken for complete.
TEST(Gguf, RefusesEveryTruncation) {
  const std::string file = GgufBuilder()
                               .Texts("tokens", {"a", "bc"})
                               .F32("f", 1.0f)
                               .Tensor("t", {32, 2}, GgufType::kQ8_0, std::string(68, 'x'))
                               .Build();
  const int64_t used = Parse(file).tensors[0].end;
  for (int64_t length = 0; length < used; ++length) {
    ExpectError(ErrorCode::kCorruptInput, "f.gguf",
                [&] { Parse(file.substr(0, static_cast<std::size_t>(length))); });
  }
  EXPECT_NO_THROW(Parse(file.substr(0, static_cast<std::size_t>(used))));
}

}  // namespace
}  // namespace narrow
