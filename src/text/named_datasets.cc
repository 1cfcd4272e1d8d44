#include "text/named_datasets.h"

#include <cstdlib>
#include <system_error>

#include "base/error.h"

namespace narrow {
namespace {

constexpr std::string_view kPilevalFiles[] = {"val.jsonl.zst", "val.jsonl", "pile_sample.jsonl"};
constexpr std::string_view kWikitext2Files[] = {"wiki.test.raw"};

constexpr NamedDataset kNamedDatasets[] = {
    {"pileval",
     kPilevalFiles,
     "the Hugging Face data set mit-han-lab/pile-val-backup has val.jsonl.zst",
     {"mit-han-lab/pile-val-backup", "", "validation", "Pile, validation", "val.jsonl.zst"}},
    {"wikitext2",
     kWikitext2Files,
     "the archive wikitext-2-raw-v1.zip has wiki.test.raw, and docs/data.md says how to make it "
     "from the Hugging Face data set Salesforce/wikitext",
     {"Salesforce/wikitext", "wikitext-2-raw-v1", "test", "WikiText-2 (raw)", ""}},
};

std::optional<std::string> Variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

}  // namespace

const NamedDataset* FindNamedDataset(std::string_view name) {
  for (const NamedDataset& dataset : kNamedDatasets) {
    if (dataset.name == name) return &dataset;
  }
  return nullptr;
}

std::string DatasetNames() {
  std::string names;
  for (const NamedDataset& dataset : kNamedDatasets) names += fmt::format("{}, ", dataset.name);
  return names + std::string(kBuiltinDataset);
}

DataDirectory ChooseDataDirectory(const std::optional<std::string>& flag) {
  if (flag) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(*flag, ignored)) {
      Fail(ErrorCode::kNotFound, "--data_dir {}: there is no such directory", *flag);
    }
    return {*flag, "--data_dir"};
  }
  if (const auto directory = Variable("NARROW_DATA_DIR")) return {*directory, "$NARROW_DATA_DIR"};
  const std::filesystem::path cache = Variable("XDG_CACHE_HOME").value_or("");
  if (cache.is_absolute()) return {cache / "narrow", "$XDG_CACHE_HOME/narrow"};
  if (const auto home = Variable("HOME")) {
    return {std::filesystem::path(*home) / ".cache" / "narrow", "$HOME/.cache/narrow"};
  }
  return {};
}

std::optional<std::filesystem::path> LocateDataset(const NamedDataset& dataset,
                                                   const DataDirectory& directory) {
  if (!directory.path) return std::nullopt;
  for (const std::string_view name : dataset.file_names) {
    std::filesystem::path path = *directory.path / name;
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored)) return path;
  }
  return std::nullopt;
}

std::string DescribeSearch(const NamedDataset& dataset, const DataDirectory& directory) {
  std::string names;
  for (std::size_t i = 0; i < dataset.file_names.size(); ++i) {
    if (i > 0) names += i + 1 == dataset.file_names.size() ? " or " : ", ";
    names += dataset.file_names[i];
  }
  if (!directory.path)
    return names + " anywhere: $NARROW_DATA_DIR, $XDG_CACHE_HOME and $HOME are not set";
  return fmt::format("{} in {} ({})", names, directory.path->string(), directory.chosen_by);
}

}  // namespace narrow
