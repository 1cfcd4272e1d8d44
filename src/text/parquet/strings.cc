#include "text/parquet/strings.h"

#include <snappy.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/json.h"
#include "text/parquet/levels.h"

namespace narrow {
namespace {

using Bytes = std::span<const std::byte>;

constexpr int64_t kMaxHeaderBytes = int64_t{1} << 20;
constexpr int kPlain = 0;
constexpr int kPlainDictionary = 2;
constexpr int kRleDictionary = 8;

// Reads the pages of one chunk in turn.
class ChunkReader {
 public:
  ChunkReader(const ByteSource& file, const ParquetColumn& column, const ParquetChunk& chunk)
      : file_(file),
        column_(column),
        chunk_(chunk),
        what_(fmt::format("{}, column {}", file.path().string(), Quoted(column.name))) {}

  // False when the sink said to stop.
  bool Read(const TextSink& sink) {
    int64_t position = chunk_.begin;
    const int64_t end = chunk_.begin + chunk_.bytes;
    int64_t values = 0;
    while (values < chunk_.values) {
      if (position >= end) FailChunk("its pages hold fewer values than it has rows");
      const ParquetPage page = ReadPage(position, end);
      position += page.header_bytes + page.compressed_bytes;
      if (page.kind == ParquetPage::Kind::kDictionary) {
        TakeDictionary(page);
      } else if (page.kind != ParquetPage::Kind::kOther) {
        values += page.values;
        if (values > chunk_.values) FailChunk("its pages hold more values than it has rows");
        if (!TakeValues(page, sink)) return false;
      }
    }
    return true;
  }

 private:
  [[noreturn]] void FailChunk(std::string_view problem) const {
    Fail(ErrorCode::kCorruptInput, "{}: {}; it is damaged", what_, problem);
  }

  // Leaves the unpacked bytes in page_, levels first.
  ParquetPage ReadPage(int64_t position, int64_t end) {
    std::vector<std::byte> head(
        static_cast<std::size_t>(std::min(kMaxHeaderBytes, end - position)));
    file_.ReadAt(position, head);
    const ParquetPage page = ParseParquetPage(head, what_);
    if (page.compressed_bytes > end - position - page.header_bytes) {
      FailChunk("a page ends behind its column");
    }
    packed_.resize(static_cast<std::size_t>(page.compressed_bytes));
    file_.ReadAt(position + page.header_bytes, packed_);
    if (page.kind == ParquetPage::Kind::kOther) return page;
    page_.resize(static_cast<std::size_t>(page.uncompressed_bytes));
    const auto levels = static_cast<std::size_t>(page.level_bytes);
    std::copy_n(packed_.begin(), levels, page_.begin());
    Unpack(Bytes(packed_).subspan(levels), std::span(page_).subspan(levels),
           page.compressed ? chunk_.codec : static_cast<int>(ParquetCodec::kUncompressed));
    return page;
  }

  void Unpack(Bytes from, std::span<std::byte> to, int codec) const {
    const auto* source = reinterpret_cast<const char*>(from.data());
    if (codec == static_cast<int>(ParquetCodec::kUncompressed)) {
      if (from.size() != to.size()) FailChunk("a page has two sizes");
      std::copy(from.begin(), from.end(), to.begin());
    } else if (codec == static_cast<int>(ParquetCodec::kSnappy)) {
      std::size_t length = 0;
      if (!snappy::GetUncompressedLength(source, from.size(), &length) || length != to.size() ||
          !snappy::RawUncompress(source, from.size(), reinterpret_cast<char*>(to.data()))) {
        FailChunk("a page is not what snappy makes");
      }
    } else if (codec == static_cast<int>(ParquetCodec::kZstd)) {
      if (to.empty() && from.empty()) return;
      const std::size_t length = ZSTD_decompress(to.data(), to.size(), from.data(), from.size());
      if (ZSTD_isError(length) != 0 || length != to.size()) {
        FailChunk("a page is not what Zstandard makes");
      }
    } else {
      Fail(ErrorCode::kUnsupported,
           "{}: compressed by codec {} of Parquet; plain, snappy and zstd are read", what_, codec);
    }
  }

  // The next text of length and bytes.
  std::string_view TakeText(Bytes& bytes) const {
    uint32_t length = 0;
    if (bytes.size() < sizeof(length)) FailChunk("a page ends early");
    std::memcpy(&length, bytes.data(), sizeof(length));
    if (length > bytes.size() - sizeof(length)) FailChunk("a text ends behind its page");
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof(length),
                                length);
    bytes = bytes.subspan(sizeof(length) + length);
    return text;
  }

  void TakeDictionary(const ParquetPage& page) {
    if (page.encoding != kPlain && page.encoding != kPlainDictionary) {
      Fail(ErrorCode::kUnsupported, "{}: a dictionary of encoding {} is not read", what_,
           page.encoding);
    }
    dictionary_bytes_ = page_;
    dictionary_.clear();
    Bytes bytes = dictionary_bytes_;
    for (int64_t i = 0; i < page.values; ++i) dictionary_.push_back(TakeText(bytes));
  }

  // Which rows are there; empty: all of them. Leaves the values in `bytes`.
  std::vector<uint32_t> TakeLevels(const ParquetPage& page, Bytes& bytes) const {
    if (page.kind == ParquetPage::Kind::kDataV2) {
      const Bytes levels = bytes.first(static_cast<std::size_t>(page.level_bytes));
      bytes = bytes.subspan(levels.size());
      return column_.optional ? DecodeHybrid(levels, 1, page.values, what_)
                              : std::vector<uint32_t>();
    }
    if (!column_.optional) return {};
    uint32_t length = 0;
    if (bytes.size() < sizeof(length)) FailChunk("a page ends early");
    std::memcpy(&length, bytes.data(), sizeof(length));
    bytes = bytes.subspan(sizeof(length));
    if (length > bytes.size()) FailChunk("levels end behind their page");
    const Bytes levels = bytes.first(length);
    bytes = bytes.subspan(length);
    return DecodeHybrid(levels, 1, page.values, what_);
  }

  bool TakeValues(const ParquetPage& page, const TextSink& sink) const {
    Bytes bytes = page_;
    const std::vector<uint32_t> levels = TakeLevels(page, bytes);
    const auto present = levels.empty() ? page.values : std::ranges::count(levels, 1u);
    std::vector<uint32_t> places;
    const bool indirect = page.encoding == kPlainDictionary || page.encoding == kRleDictionary;
    if (indirect && present > 0) {
      if (bytes.empty()) FailChunk("a page ends early");
      places = DecodeHybrid(bytes.subspan(1), static_cast<int>(bytes.front()), present, what_);
    } else if (page.encoding != kPlain && !indirect) {
      Fail(ErrorCode::kUnsupported,
           "{}: encoding {} of Parquet is not read; PLAIN and dictionaries are", what_,
           page.encoding);
    }
    std::size_t next = 0;
    for (int64_t i = 0; i < page.values; ++i) {
      std::optional<std::string_view> text;
      if (levels.empty() || levels[static_cast<std::size_t>(i)] == 1) {
        if (indirect && places[next] >= dictionary_.size()) {
          FailChunk("a value is not in its dictionary");
        }
        text = indirect ? dictionary_[places[next++]] : TakeText(bytes);
      }
      if (!sink(text)) return false;
    }
    return true;
  }

  const ByteSource& file_;
  const ParquetColumn& column_;
  const ParquetChunk& chunk_;
  const std::string what_;
  std::vector<std::byte> packed_;
  std::vector<std::byte> page_;
  std::vector<std::byte> dictionary_bytes_;
  std::vector<std::string_view> dictionary_;  // in dictionary_bytes_
};

}  // namespace

const ParquetColumn& FindTextColumn(const ParquetMetadata& metadata, std::string_view name,
                                    std::string_view what) {
  std::string names;
  const ParquetColumn* only = nullptr;
  int64_t texts = 0;
  for (const ParquetColumn& column : metadata.columns) {
    const bool text = column.type == ParquetType::kByteArray;
    if (column.name == name || (name.empty() && text && column.name == "text")) {
      if (text) return column;
      Fail(ErrorCode::kUnsupported, "{}: column {} holds no texts", what, Quoted(name));
    }
    if (text) only = &column;
    texts += text ? 1 : 0;
    names += (names.empty() ? "" : ", ") + column.name;
  }
  if (name.empty() && texts == 1) return *only;
  Fail(ErrorCode::kNotFound, "{}: {}; its flat columns are {}", what,
       name.empty() ? "name a column: there is no \"text\""
                    : fmt::format("there is no flat column {}", Quoted(name)),
       Quoted(names));
}

void ReadTexts(const ByteSource& file, const ParquetColumn& column, const TextSink& sink) {
  NARROW_CHECK(column.type == ParquetType::kByteArray);
  for (const ParquetChunk& chunk : column.chunks) {
    if (!ChunkReader(file, column, chunk).Read(sink)) return;
  }
}

}  // namespace narrow
