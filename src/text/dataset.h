// The texts a run calibrates on and is measured on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_lines.h"
#include "text/named_datasets.h"

namespace narrow {

// What the text is for: it decides the default and which part of `builtin` is taken.
enum class DatasetUse { kCalibration, kEvaluation };

// What is taken where no text is named and it is there: pileval, wikitext2.
const NamedDataset& DefaultDataset(DatasetUse use);

// Files of the hub that a name was found to stand for.
struct FoundDataset {
  struct File {
    std::filesystem::path path;  // where it lies, whatever it is called there
    std::string name;            // which says its type
  };
  std::string name;         // as it is shown: "pileval"
  std::string source;       // "org/name at COMMIT"
  std::vector<File> files;  // in order; not empty
  std::string column;       // of Parquet files; empty: as FindTextColumn chooses
};

struct DatasetRequest {
  std::optional<std::string> source;  // a path, or pileval, wikitext2, builtin; none: the default
  // --data_dir; none: $NARROW_DATA_DIR, else $XDG_CACHE_HOME/narrow, else ~/.cache/narrow.
  std::optional<std::string> data_directory;
  std::optional<FoundDataset> found{};  // then this is read
};

struct Dataset {
  std::string name;                    // "pileval", "wikitext2", "builtin" or the file's name
  std::string origin;                  // the file that was read, or "built into narrow"
  std::vector<std::string> documents;  // valid UTF-8, in file order
  std::optional<std::string> notice;   // set when builtin stood in for a set that was not found
  std::vector<TokenLine> tokens{};     // documents that are ids; then there are no others
  int64_t empty_documents = 0;         // that were passed over
  std::string source{};                // repository and commit, where it came from the hub
};

// Finds and reads the text. Without a source: pileval for calibration and wikitext2 for evaluation
// if they are there, else builtin with a notice. Reading stops at `max_documents`; 0 means all.
// .jsonl and .jsonl.zst give one document per line (json_lines.h); calibration passes over empty
// ones. The rows of a .parquet file's column of texts are documents, too. A .txt file is one
// document, as it is; so is a .raw file, except that its rows are joined for evaluation
// (JoinWikiTextRows). Throws: kNotFound, saying where a named set was looked for and where to get
// it; kCorruptInput (line number; bad UTF-8, bad JSON, missing field, huge line, damaged Zstandard,
// no text at all); kUnsupported for another file type or too much text. Source: docs/data.md.
Dataset LoadDataset(const DatasetRequest& request, DatasetUse use, int64_t max_documents);

// The (first) file that LoadDataset would read; nothing for the built-in text, or when there is
// none.
std::optional<std::filesystem::path> DatasetFile(const DatasetRequest& request, DatasetUse use);

// One string for evaluation: the documents joined by a blank line.
std::string JoinDocuments(const Dataset& dataset);

// The rows of a file in WikiText's raw format joined by "\n\n", as Quark 0.13 joins those of the
// Hugging Face data set (contrib/llm_eval/evaluation.py): a line holding one space is an empty row,
// every other row keeps its newline.
std::string JoinWikiTextRows(std::string_view raw);

}  // namespace narrow
