// The data sets that are asked for by name, and the directory they are looked for in.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace narrow {

inline constexpr std::string_view kBuiltinDataset = "builtin";

// Where the Hugging Face hub has it, as load_dataset() of the package datasets takes it.
struct HubDataset {
  std::string_view repository;
  std::string_view config;  // empty: it has one only
  std::string_view split;
  std::string_view title;  // as people call it
  std::string_view file;   // the one that holds it; empty: Parquet files
};

struct NamedDataset {
  std::string_view name;
  std::span<const std::string_view> file_names;  // the first one that is there is taken
  std::string_view source;                       // where to get it, for a message
  HubDataset hub;
};

// Null when there is no such name.
const NamedDataset* FindNamedDataset(std::string_view name);

// All names a user may give, `builtin` included, for messages and help.
std::string DatasetNames();

struct DataDirectory {
  std::optional<std::filesystem::path> path;  // none: no variable says where the cache is
  std::string chosen_by;                      // "--data_dir", "$NARROW_DATA_DIR", ...
};

// The first that is set: `flag`, $NARROW_DATA_DIR, $XDG_CACHE_HOME/narrow, $HOME/.cache/narrow.
// Empty variables count as not set, and so does a relative $XDG_CACHE_HOME. Throws: kNotFound when
// `flag` is not a directory.
// Source: XDG Base Directory Specification 0.8.
DataDirectory ChooseDataDirectory(const std::optional<std::string>& flag);

// The file of a named set, if it is there.
std::optional<std::filesystem::path> LocateDataset(const NamedDataset& dataset,
                                                   const DataDirectory& directory);

// "val.jsonl.zst, val.jsonl or pile_sample.jsonl in DIR ($NARROW_DATA_DIR)", for messages.
std::string DescribeSearch(const NamedDataset& dataset, const DataDirectory& directory);

}  // namespace narrow
