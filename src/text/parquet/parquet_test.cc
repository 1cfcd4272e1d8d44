// Files that pyarrow made (tools/make_parquet_tests.py), whole and damaged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "io/file.h"
#include "io/json.h"
#include "io/memory_source.h"
#include "io/scratch_directory.h"
#include "tests/build_paths.h"
#include "text/parquet/levels.h"
#include "text/parquet/strings.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using Rows = std::vector<std::optional<std::string>>;

fs::path Folder() { return fs::path(NARROW_SOURCE_DIR) / "src/text/testdata/parquet"; }

Rows Read(const ByteSource& file, std::string_view column = "text") {
  const ParquetMetadata metadata = ReadParquetMetadata(file);
  Rows rows;
  ReadTexts(file, FindTextColumn(metadata, column, "file"),
            [&](std::optional<std::string_view> text) {
              rows.push_back(text ? std::optional(std::string(*text)) : std::nullopt);
              return true;
            });
  EXPECT_EQ(std::ssize(rows), metadata.rows);
  return rows;
}

// `list` has places in `texts`.
Rows Expected(const Json& texts, const Json& list) {
  Rows rows;
  for (const Json& row : list) {
    rows.push_back(row.is_null()
                       ? std::nullopt
                       : std::optional(texts.at(row.get<std::size_t>()).get<std::string>()));
  }
  return rows;
}

// Every codec, page version and encoding that is read, with and without nulls, in one row group and
// many, between columns of other types.
TEST(ParquetTest, ReadsWhatPyarrowWrote) {
  const Json expected = ReadJsonFile(Folder() / "rows.json");
  EXPECT_EQ(expected.at("kinds").size(), 18u);
  for (const auto& [name, rows] : expected.at("kinds").items()) {
    SCOPED_TRACE(name);
    EXPECT_EQ(Read(InputFile(Folder() / (name + ".parquet"))),
              Expected(expected.at("texts"), rows));
  }
}

TEST(ParquetTest, StopsWhenThereIsEnough) {
  const InputFile file(Folder() / "repeated.parquet");
  int rows = 0;
  const ParquetMetadata metadata = ReadParquetMetadata(file);
  ReadTexts(file, metadata.columns.front(),
            [&](std::optional<std::string_view>) { return ++rows < 7; });
  EXPECT_EQ(rows, 7);
}

TEST(ParquetTest, FindsColumns) {
  const InputFile file(Folder() / "columns.parquet");
  const ParquetMetadata metadata = ReadParquetMetadata(file);
  EXPECT_EQ(FindTextColumn(metadata, "", "file").name, "text");
  EXPECT_EQ(FindTextColumn(metadata, "title", "file").name, "title");
  EXPECT_EQ(Read(file, "title").at(3), "title 3");
  ExpectError(ErrorCode::kNotFound, "there is no flat column \"meta\"; its flat columns are \"id,",
              [&] { FindTextColumn(metadata, "meta", "file"); });
  ExpectError(ErrorCode::kUnsupported, "column \"id\" holds no texts",
              [&] { FindTextColumn(metadata, "id", "file"); });
}

TEST(ParquetTest, NamesWhatIsNotRead) {
  ExpectError(ErrorCode::kUnsupported, "compressed by codec 2",
              [] { Read(InputFile(Folder() / "gzip.unread")); });
  ExpectError(ErrorCode::kUnsupported, "encoding 7",
              [] { Read(InputFile(Folder() / "delta.unread")); });
  ExpectError(ErrorCode::kCorruptInput, "no Parquet file",
              [] { Read(InputFile(Folder() / "rows.json")); });
}

// Every byte of some files set to other values, and every length: an error, or rows.
TEST(ParquetTest, SurvivesAnyDamage) {
  for (const char* name : {"zstd-v2-dictionary", "snappy-v1-plain", "repeated-nulls"}) {
    std::ifstream stream(Folder() / (std::string(name) + ".parquet"), std::ios::binary);
    const std::string whole{std::istreambuf_iterator<char>(stream), {}};
    const auto try_bytes = [](const std::string& bytes) {
      try {
        const MemorySource file(std::as_bytes(std::span(bytes)));
        const ParquetMetadata metadata = ReadParquetMetadata(file);
        for (const ParquetColumn& column : metadata.columns) {
          if (column.type != ParquetType::kByteArray) continue;
          int rows = 0;
          ReadTexts(file, column, [&](std::optional<std::string_view>) { return ++rows < 10'000; });
        }
      } catch (const Error& error) {
        EXPECT_TRUE(error.code() == ErrorCode::kCorruptInput ||
                    error.code() == ErrorCode::kUnsupported)
            << error.what();
      }
    };
    for (std::size_t i = 0; i < whole.size(); ++i) {
      for (const int value : {0x00, 0xFF, whole[i] ^ 1}) {
        std::string damaged = whole;
        damaged[i] = static_cast<char>(value);
        try_bytes(damaged);
      }
      try_bytes(whole.substr(0, i));
    }
  }
}

// The example of the format's own description (Encodings.md): 0 to 7 in three bits.
TEST(ParquetLevelsTest, DecodesTheExampleOfTheFormat) {
  const auto decode = [](std::initializer_list<int> values, int width, int64_t count) {
    std::vector<std::byte> bytes;
    for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
    return DecodeHybrid(bytes, width, count, "page");
  };
  EXPECT_THAT(decode({0x03, 0b10001000, 0b11000110, 0b11111010}, 3, 8),
              testing::ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_THAT(decode({0x0A, 0x07, 0x03, 0b10001000, 0b11000110, 0b11111010}, 3, 8),
              testing::ElementsAre(7, 7, 7, 7, 7, 0, 1, 2));
  EXPECT_THAT(decode({0x06, 0x39, 0x05}, 12, 3), testing::ElementsAre(1337, 1337, 1337));
  EXPECT_THAT(decode({0x08}, 0, 4), testing::ElementsAre(0, 0, 0, 0));
  ExpectError(ErrorCode::kCorruptInput, "end early", [&] { decode({0x03, 0}, 3, 8); });
  ExpectError(ErrorCode::kCorruptInput, "end early", [&] { decode({0x00, 1}, 3, 8); });
  ExpectError(ErrorCode::kCorruptInput, "33 bits", [&] { decode({}, 33, 1); });
}

}  // namespace
}  // namespace narrow
