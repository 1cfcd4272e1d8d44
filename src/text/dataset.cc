#include "text/dataset.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <span>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "text/builtin_corpus.h"
#include "text/json_lines.h"
#include "text/named_datasets.h"
#include "text/parquet/strings.h"
#include "text/utf8.h"
#include "text/zstd_stream.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxTextFileBytes = int64_t{1} << 30;
constexpr int64_t kReadBytes = int64_t{1} << 20;

constexpr int64_t kMaxParquetTextBytes = int64_t{4} << 30;

enum class FileType { kPlainText, kWikiTextRows, kJsonLines, kZstdJsonLines, kParquet };

struct FileSuffix {
  std::string_view suffix;
  FileType type;
};
constexpr FileSuffix kFileSuffixes[] = {
    {".txt", FileType::kPlainText},   {".raw", FileType::kWikiTextRows},
    {".jsonl", FileType::kJsonLines}, {".jsonl.zst", FileType::kZstdJsonLines},
    {".parquet", FileType::kParquet},
};

std::string_view Flag(DatasetUse use) {
  return use == DatasetUse::kCalibration ? "--dataset" : "--eval_data";
}

// `path` is where it lies.
FileType TypeOf(const std::string& name, const fs::path& path) {
  for (const FileSuffix& known : kFileSuffixes) {
    if (name.ends_with(known.suffix)) return known.type;
  }
  Fail(ErrorCode::kUnsupported,
       "{}: unknown type of text file; expected a name ending in .txt, .raw, .jsonl, "
       ".jsonl.zst or .parquet",
       path.string());
}

std::string ReadText(const fs::path& path) {
  std::string text = ReadWholeFile(path, kMaxTextFileBytes);
  const int64_t offset = FindInvalidUtf8(text);
  if (offset >= 0) {
    Fail(ErrorCode::kCorruptInput, "{}, line {}: not valid UTF-8 at byte offset {}", path.string(),
         1 + std::count(text.begin(), text.begin() + offset, '\n'), offset);
  }
  return text;
}

void StreamFile(const InputFile& file, const ByteSink& sink) {
  std::vector<char> buffer(static_cast<std::size_t>(std::min(file.size(), kReadBytes)));
  for (int64_t offset = 0; offset < file.size();) {
    const auto count = static_cast<std::size_t>(std::min(kReadBytes, file.size() - offset));
    file.ReadAt(offset, std::as_writable_bytes(std::span(buffer).first(count)));
    if (!sink({buffer.data(), count})) return;
    offset += static_cast<int64_t>(count);
  }
}

// Rows are documents; a null is an empty one.
JsonLines ReadParquetDocuments(const fs::path& path, const std::string& column, DatasetUse use,
                               int64_t max_documents) {
  const InputFile file(path);
  const std::string what = path.string();
  const ParquetMetadata metadata = ReadParquetMetadata(file);
  JsonLines documents;
  int64_t row = 0;
  int64_t bytes = 0;
  ReadTexts(file, FindTextColumn(metadata, column, what),
            [&](std::optional<std::string_view> text) {
              ++row;
              const std::string_view value = text.value_or("");
              if (FindInvalidUtf8(value) >= 0) {
                Fail(ErrorCode::kCorruptInput, "{}, row {}: not valid UTF-8", what, row);
              }
              if (use == DatasetUse::kCalibration && IsWhiteSpace(value)) {
                ++documents.empty;
                return true;
              }
              bytes += std::ssize(value);
              if (bytes > kMaxParquetTextBytes) {
                Fail(ErrorCode::kUnsupported, "{}: more than {} bytes of text", what,
                     kMaxParquetTextBytes);
              }
              documents.texts.emplace_back(value);
              return max_documents == 0 || std::ssize(documents.texts) < max_documents;
            });
  return documents;
}

// `name` says the type of the file.
JsonLines ReadDocuments(const fs::path& path, const std::string& name, const std::string& column,
                        DatasetUse use, int64_t max_documents) {
  const FileType type = TypeOf(name, path);
  JsonLines documents;
  if (type == FileType::kParquet) return ReadParquetDocuments(path, column, use, max_documents);
  if (type == FileType::kPlainText) {
    documents.texts.push_back(ReadText(path));
    return documents;
  }
  if (type == FileType::kWikiTextRows) {
    std::string text = ReadText(path);
    documents.texts.push_back(use == DatasetUse::kEvaluation ? JoinWikiTextRows(text)
                                                             : std::move(text));
    return documents;
  }
  // An empty document of an evaluation text is a row of it: published figures count its blank line.
  JsonLinesParser parser(path.string(), {.max_documents = max_documents,
                                         .skip_empty = use == DatasetUse::kCalibration});
  const ByteSink sink = [&](std::string_view bytes) { return parser.Add(bytes); };
  const InputFile file(path);
  if (type == FileType::kJsonLines) {
    StreamFile(file, sink);
  } else {
    DecompressZstdFile(file, sink);
  }
  return parser.Finish();
}

void CheckHasText(const Dataset& dataset) {
  const bool has_text =
      std::any_of(dataset.documents.begin(), dataset.documents.end(),
                  [](const std::string& document) { return !IsWhiteSpace(document); });
  if (has_text || !dataset.tokens.empty()) return;
  Fail(ErrorCode::kCorruptInput, "{}: there is no text in it{}", dataset.origin,
       dataset.empty_documents > 0
           ? fmt::format("; all {} documents are empty", dataset.empty_documents)
           : "");
}

Dataset LoadFile(const fs::path& path, std::string name, DatasetUse use, int64_t max_documents) {
  Dataset dataset;
  dataset.name = std::move(name);
  dataset.origin = path.string();
  JsonLines documents = ReadDocuments(path, path.filename().string(), "", use, max_documents);
  dataset.documents = std::move(documents.texts);
  dataset.tokens = std::move(documents.tokens);
  dataset.empty_documents = documents.empty;
  CheckHasText(dataset);
  return dataset;
}

// The files in turn, until there are enough documents.
Dataset LoadFound(const FoundDataset& found, DatasetUse use, int64_t max_documents) {
  Dataset dataset;
  dataset.name = found.name;
  dataset.source = found.source;
  dataset.origin = found.files.front().path.string();
  for (const FoundDataset::File& file : found.files) {
    const int64_t wanted = max_documents == 0 ? 0 : max_documents - std::ssize(dataset.documents);
    if (max_documents > 0 && wanted <= 0) break;
    JsonLines documents = ReadDocuments(file.path, file.name, found.column, use, wanted);
    std::ranges::move(documents.texts, std::back_inserter(dataset.documents));
    std::ranges::move(documents.tokens, std::back_inserter(dataset.tokens));
    dataset.empty_documents += documents.empty;
  }
  CheckHasText(dataset);
  return dataset;
}

Dataset LoadBuiltin(DatasetUse use, int64_t max_documents) {
  std::span<const std::string_view> documents = use == DatasetUse::kCalibration
                                                    ? BuiltinCalibrationDocuments()
                                                    : BuiltinEvaluationDocuments();
  if (max_documents > 0 && max_documents < std::ssize(documents)) {
    documents = documents.first(static_cast<std::size_t>(max_documents));
  }
  Dataset dataset;
  dataset.name = kBuiltinDataset;
  dataset.origin = "built into narrow";
  dataset.documents.assign(documents.begin(), documents.end());
  return dataset;
}

Dataset LoadDefault(const DatasetRequest& request, DatasetUse use, int64_t max_documents) {
  const NamedDataset* wanted = &DefaultDataset(use);
  const DataDirectory directory = ChooseDataDirectory(request.data_directory);
  if (const auto path = LocateDataset(*wanted, directory)) {
    return LoadFile(*path, std::string(wanted->name), use, max_documents);
  }
  Dataset dataset = LoadBuiltin(use, max_documents);
  dataset.notice = fmt::format(
      "{} on the small corpus built into narrow, because {} is not there (no {}); results differ "
      "from those on {}",
      use == DatasetUse::kCalibration ? "Calibrated" : "Evaluated", wanted->name,
      DescribeSearch(*wanted, directory), wanted->name);
  return dataset;
}

}  // namespace

const NamedDataset& DefaultDataset(DatasetUse use) {
  const NamedDataset* wanted =
      FindNamedDataset(use == DatasetUse::kCalibration ? "pileval" : "wikitext2");
  NARROW_CHECK(wanted != nullptr);
  return *wanted;
}

Dataset LoadDataset(const DatasetRequest& request, DatasetUse use, int64_t max_documents) {
  NARROW_CHECK(max_documents >= 0);
  if (request.found) return LoadFound(*request.found, use, max_documents);
  if (!request.source) return LoadDefault(request, use, max_documents);
  const std::string& source = *request.source;
  if (source == kBuiltinDataset) return LoadBuiltin(use, max_documents);
  if (const NamedDataset* named = FindNamedDataset(source)) {
    const DataDirectory directory = ChooseDataDirectory(request.data_directory);
    const auto path = LocateDataset(*named, directory);
    if (!path) {
      Fail(ErrorCode::kNotFound, "{} {}: there is no {}; {}", Flag(use), source,
           DescribeSearch(*named, directory), named->source);
    }
    return LoadFile(*path, source, use, max_documents);
  }
  const fs::path path(source);
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    Fail(ErrorCode::kNotFound, "{} {}: there is no such file, and the names known are {}",
         Flag(use), Quoted(source), DatasetNames());
  }
  return LoadFile(path, path.filename().string(), use, max_documents);
}

std::optional<fs::path> DatasetFile(const DatasetRequest& request, DatasetUse use) {
  if (request.found) return request.found->files.front().path;
  if (request.source == kBuiltinDataset) return std::nullopt;
  const NamedDataset* named =
      request.source ? FindNamedDataset(*request.source) : &DefaultDataset(use);
  if (named == nullptr) return fs::path(*request.source);
  return LocateDataset(*named, ChooseDataDirectory(request.data_directory));
}

std::string JoinDocuments(const Dataset& dataset) {
  std::string joined;
  for (const std::string& document : dataset.documents) {
    if (&document != &dataset.documents.front()) joined += "\n\n";
    joined += document;
  }
  return joined;
}

std::string JoinWikiTextRows(std::string_view raw) {
  std::string joined;
  joined.reserve(raw.size() * 2);
  for (bool first = true; !raw.empty(); first = false) {
    const std::size_t newline = raw.find('\n');
    const std::size_t row_bytes = newline == std::string_view::npos ? raw.size() : newline + 1;
    const std::string_view row = raw.substr(0, row_bytes);
    if (!first) joined += "\n\n";
    if (row != " \n") joined += row;
    raw.remove_prefix(row_bytes);
  }
  return joined;
}

}  // namespace narrow
