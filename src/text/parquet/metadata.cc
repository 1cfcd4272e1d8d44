#include "text/parquet/metadata.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/checked_math.h"
#include "base/error.h"
#include "io/json.h"
#include "text/parquet/thrift.h"

namespace narrow {
namespace {

using Type = ThriftReader::Type;

constexpr std::string_view kMagic = "PAR1";
constexpr std::string_view kEncryptedMagic = "PARE";
constexpr int64_t kTailBytes = 8;  // length of the footer and the magic
constexpr int64_t kMaxFooterBytes = int64_t{64} << 20;
constexpr int64_t kMaxPageBytes = int64_t{256} << 20;
constexpr int64_t kMaxPageValues = int64_t{1} << 24;
constexpr int64_t kMaxElements = 1'000'000;

template <typename... Args>
[[noreturn]] void FailFile(std::string_view what, fmt::format_string<Args...> format,
                           Args&&... args) {
  Fail(ErrorCode::kCorruptInput, "{}: {}", what, fmt::format(format, std::forward<Args>(args)...));
}

struct SchemaElement {
  std::string name;
  int64_t type = -1;  // none: a group
  int64_t repetition = 0;
  int64_t children = 0;
};

struct ColumnFacts {
  int64_t type = -1;
  std::vector<std::string> path;
  int64_t codec = 0;
  int64_t values = 0;
  int64_t bytes = 0;
  int64_t data_page = -1;
  int64_t dictionary_page = -1;
  bool elsewhere = false;  // in another file
};

struct RowGroup {
  std::vector<ColumnFacts> columns;
  int64_t rows = 0;
};

struct Footer {
  std::vector<SchemaElement> schema;
  std::vector<RowGroup> groups;
  int64_t rows = 0;
};

SchemaElement ReadElement(ThriftReader& reader) {
  SchemaElement element;
  reader.Struct([&](int id, Type type) {
    if (id == 1) element.type = reader.Int(type);
    if (id == 3) element.repetition = reader.Int(type);
    if (id == 4) element.name = reader.Binary(type);
    if (id == 5) element.children = reader.Int(type);
    return id == 1 || id == 3 || id == 4 || id == 5;
  });
  return element;
}

bool ReadFact(ThriftReader& reader, int id, Type type, ColumnFacts& facts) {
  switch (id) {
    case 1:
      facts.type = reader.Int(type);
      return true;
    case 3:
      reader.List(type, Type::kBinary, kMaxElements,
                  [&] { facts.path.emplace_back(reader.Binary(Type::kBinary)); });
      return true;
    case 4:
      facts.codec = reader.Int(type);
      return true;
    case 5:
      facts.values = reader.Int(type);
      return true;
    case 7:
      facts.bytes = reader.Int(type);
      return true;
    case 9:
      facts.data_page = reader.Int(type);
      return true;
    case 11:
      facts.dictionary_page = reader.Int(type);
      return true;
    default:
      return false;
  }
}

ColumnFacts ReadColumn(ThriftReader& reader) {
  ColumnFacts facts;
  reader.Struct([&](int id, Type type) {
    if (id == 1) facts.elsewhere = !reader.Binary(type).empty();
    if (id == 3) {
      if (type != Type::kStruct) return false;
      reader.Struct(
          [&](int inner, Type inner_type) { return ReadFact(reader, inner, inner_type, facts); });
    }
    return id == 1 || id == 3;
  });
  return facts;
}

// `left`: columns that the footer may still have.
RowGroup ReadGroup(ThriftReader& reader, int64_t& left) {
  RowGroup group;
  reader.Struct([&](int id, Type type) {
    if (id == 1) {
      reader.List(type, Type::kStruct, left, [&] { group.columns.push_back(ReadColumn(reader)); });
      left -= std::ssize(group.columns);
    }
    if (id == 3) group.rows = reader.Int(type);
    return id == 1 || id == 3;
  });
  return group;
}

Footer ReadFooter(ThriftReader& reader) {
  Footer footer;
  int64_t left = kMaxElements;
  reader.Struct([&](int id, Type type) {
    if (id == 2) {
      reader.List(type, Type::kStruct, kMaxElements,
                  [&] { footer.schema.push_back(ReadElement(reader)); });
    }
    if (id == 3) footer.rows = reader.Int(type);
    if (id == 4) {
      reader.List(type, Type::kStruct, kMaxElements,
                  [&] { footer.groups.push_back(ReadGroup(reader, left)); });
    }
    return id >= 2 && id <= 4;
  });
  return footer;
}

// The element after the one at `place` and all below it.
std::size_t PastSubtree(const std::vector<SchemaElement>& schema, std::size_t place,
                        std::string_view what) {
  int64_t open = 1;
  for (; open > 0; ++place) {
    if (place >= schema.size()) FailFile(what, "its schema ends early");
    if (schema[place].children < 0 || schema[place].children > kMaxElements) {
      FailFile(what, "an element of its schema has {} children", schema[place].children);
    }
    open += schema[place].children - 1;
  }
  return place;
}

std::vector<ParquetColumn> FlatColumns(const std::vector<SchemaElement>& schema,
                                       std::string_view what) {
  std::vector<ParquetColumn> columns;
  if (schema.empty()) FailFile(what, "it has no schema");
  if (PastSubtree(schema, 0, what) != schema.size()) {
    FailFile(what, "its schema has elements that belong to none");
  }
  for (std::size_t place = 1; place < schema.size(); place = PastSubtree(schema, place, what)) {
    const SchemaElement& element = schema[place];
    if (element.children > 0 || element.repetition > 1) continue;  // nested
    if (element.type < 0 || element.type > 7 || element.repetition < 0) {
      FailFile(what, "column {} has no type that there is", Quoted(element.name));
    }
    columns.push_back(
        {element.name, static_cast<ParquetType>(element.type), element.repetition == 1, {}});
  }
  return columns;
}

ParquetChunk CheckedChunk(const ColumnFacts& facts, const RowGroup& group, int64_t data_end,
                          std::string_view what) {
  const bool dictionary = facts.dictionary_page > 0 && facts.dictionary_page < facts.data_page;
  const int64_t begin = dictionary ? facts.dictionary_page : facts.data_page;
  if (facts.elsewhere) FailFile(what, "a column is in another file");
  if (facts.values != group.rows || group.rows < 0) {
    FailFile(what, "a flat column has {} values in {} rows", facts.values, group.rows);
  }
  if (facts.values == 0) return {};
  if (begin < std::ssize(kMagic) || facts.bytes < 0 || begin > data_end ||
      facts.bytes > data_end - begin) {
    FailFile(what, "{} bytes at {} are outside of the file", facts.bytes, begin);
  }
  return {static_cast<int>(std::clamp<int64_t>(facts.codec, -1, 1000)), begin, facts.bytes,
          facts.values};
}

}  // namespace

ParquetMetadata ReadParquetMetadata(const ByteSource& file) {
  const std::string what = file.path().string();
  std::array<char, kTailBytes> tail{};
  if (file.size() < kTailBytes + std::ssize(kMagic)) {
    FailFile(what, "{} bytes are too few for a Parquet file", file.size());
  }
  file.ReadAt(file.size() - kTailBytes, std::as_writable_bytes(std::span(tail)));
  const std::string_view magic(tail.data() + 4, 4);
  if (magic == kEncryptedMagic) {
    Fail(ErrorCode::kUnsupported, "{}: an encrypted Parquet file is not read", what);
  }
  uint32_t length = 0;
  std::memcpy(&length, tail.data(), sizeof(length));
  const int64_t data_end = file.size() - kTailBytes - int64_t{length};
  if (magic != kMagic || int64_t{length} > kMaxFooterBytes || data_end < std::ssize(kMagic)) {
    FailFile(what, "no Parquet file, or one that was cut");
  }
  std::vector<std::byte> bytes(length);
  file.ReadAt(data_end, bytes);
  ThriftReader reader(bytes, what);
  const Footer footer = ReadFooter(reader);
  ParquetMetadata metadata;
  metadata.columns = FlatColumns(footer.schema, what);
  for (const RowGroup& group : footer.groups) {
    for (ParquetColumn& column : metadata.columns) {
      const auto facts = std::ranges::find_if(group.columns, [&](const ColumnFacts& one) {
        return one.path.size() == 1 && one.path.front() == column.name;
      });
      if (facts == group.columns.end() || facts->type != static_cast<int64_t>(column.type)) {
        FailFile(what, "a row group has no column {} as the schema says", Quoted(column.name));
      }
      column.chunks.push_back(CheckedChunk(*facts, group, data_end, what));
    }
    const auto rows = CheckedAdd(metadata.rows, group.rows);
    if (!rows) FailFile(what, "it has more than 2^63 rows");
    metadata.rows = *rows;
  }
  if (metadata.rows != footer.rows) {
    FailFile(what, "its row groups have {} rows, the footer says {}", metadata.rows, footer.rows);
  }
  return metadata;
}

ParquetPage ParseParquetPage(std::span<const std::byte> bytes, std::string_view what) {
  ThriftReader reader(bytes, what);
  ParquetPage page;
  int64_t nulls_and_rows = 0;
  int64_t repetition_bytes = 0;
  const auto read_header = [&](int encoding_id) {
    reader.Struct([&](int id, Type type) {
      if (id == 1)
        page.values = reader.Int(type);
      else if (id == encoding_id)
        page.encoding = static_cast<int>(reader.Int(type) & 0xFF);
      else if (encoding_id == 4 && (id == 2 || id == 3))
        nulls_and_rows |= reader.Int(type);
      else if (encoding_id == 4 && id == 5)
        page.level_bytes = reader.Int(type);
      else if (encoding_id == 4 && id == 6)
        repetition_bytes = reader.Int(type);
      else if (encoding_id == 4 && id == 7)
        page.compressed = reader.Bool(type);
      else
        return false;
      return true;
    });
  };
  reader.Struct([&](int id, Type type) {
    constexpr ParquetPage::Kind kKinds[] = {ParquetPage::Kind::kData, ParquetPage::Kind::kOther,
                                            ParquetPage::Kind::kDictionary,
                                            ParquetPage::Kind::kDataV2};
    if (id == 1) {
      const int64_t kind = reader.Int(type);
      page.kind = kind >= 0 && kind < 4 ? kKinds[kind] : ParquetPage::Kind::kOther;
    } else if (id == 2) {
      page.uncompressed_bytes = reader.Int(type);
    } else if (id == 3) {
      page.compressed_bytes = reader.Int(type);
    } else if ((id == 5 || id == 7) && type == Type::kStruct) {
      read_header(2);
    } else if (id == 8 && type == Type::kStruct) {
      read_header(4);
    } else {
      return false;
    }
    return true;
  });
  page.header_bytes = reader.position();
  if (page.compressed_bytes < 0 || page.compressed_bytes > kMaxPageBytes ||
      page.uncompressed_bytes < 0 || page.uncompressed_bytes > kMaxPageBytes || page.values < 0 ||
      page.values > kMaxPageValues || page.level_bytes < 0 || repetition_bytes != 0 ||
      nulls_and_rows < 0 || page.level_bytes > page.compressed_bytes ||
      page.level_bytes > page.uncompressed_bytes) {
    FailFile(what, "a page has {} bytes ({} unpacked) and {} values", page.compressed_bytes,
             page.uncompressed_bytes, page.values);
  }
  return page;
}

}  // namespace narrow
