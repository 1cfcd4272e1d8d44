// The texts a run calibrates on and is measured on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace narrow {

// What the text is for: it decides the default and which part of `builtin` is taken.
enum class DatasetUse { kCalibration, kEvaluation };

struct DatasetRequest {
  std::optional<std::string> source;  // a path, or pileval, wikitext2, builtin; none: the default
  std::optional<std::string> data_directory;  // --data_dir; else $NARROW_DATA_DIR, else the user cache
};

struct Dataset {
  std::string name;                     // "pileval", "wikitext2", "builtin" or the file's name
  std::string origin;                   // the file that was read, or "built into narrow"
  std::vector<std::string> documents;   // valid UTF-8, in file order
  std::optional<std::string> notice;    // set when builtin stood in for a set that was not found
};

// Finds and reads the text.
// Default: pileval for calibration and wikitext2 for evaluation if they are there, else builtin with a
// notice. `max_documents` stops reading early (calibration needs only the first N).
// A .txt or .raw file is one document (for evaluation, rows joined as Quark joins WikiText:
// docs/formats/checkpoint.md, section Perplexity); .jsonl and .jsonl.zst give one per line from field
// "text". Throws: kNotFound, saying where to get a named set; kCorruptInput (line number, bad UTF-8,
// bad JSON, missing field, empty data set); kUnsupported for another file type.
Dataset LoadDataset(const DatasetRequest& request, DatasetUse use, int64_t max_documents);

// One string for evaluation: the documents joined by a blank line.
std::string JoinDocuments(const Dataset& dataset);

// WikiText rows: a line holding one space is an empty row, other rows keep their newline; rows joined
// by "\n\n". Source: Quark 0.13 contrib/llm_eval/evaluation.py, over the Hugging Face data set.
std::string JoinWikiTextRows(std::string_view raw);

}  // namespace narrow
