#include "report/source_facts.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "hub/repository.h"
#include "io/file.h"
#include "io/json.h"
#include "io/yaml.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxReadBytes = int64_t{1} << 20;
constexpr std::size_t kMaxIdentifierLength = 64;
constexpr std::size_t kMaxLineLength = 512;

// The longest titles first: "LLAMA 3" is the start of "LLAMA 3.1".
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kLicenseTitles = {{
    {"llama 3.3 community license", "llama3.3"},
    {"llama 3.2 community license", "llama3.2"},
    {"llama 3.1 community license", "llama3.1"},
    {"llama 3 community license", "llama3"},
    {"llama 2 community license", "llama2"},
    {"apache license", "apache-2.0"},
    {"mit license", "mit"},
    {"gnu affero general public license", "agpl-3.0"},
    {"bsd 3-clause", "bsd-3-clause"},
}};

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

// The first bytes of a regular file; nothing if there is no readable one.
std::string ReadStart(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return {};
  try {
    const InputFile file(path);
    std::string text(static_cast<std::size_t>(std::min(file.size(), kMaxReadBytes)), '\0');
    file.ReadAt(0, std::as_writable_bytes(std::span<char>(text)));
    return text;
  } catch (const Error&) {
    return {};  // facts for the card are optional
  }
}

bool IsIdentifier(std::string_view text) {
  return !text.empty() && text.size() <= kMaxIdentifierLength &&
         std::ranges::all_of(text, [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                  std::string_view("._-+").find(c) != std::string_view::npos;
         });
}

// The front matter of the card, or an empty object.
Json CardOf(const fs::path& directory) {
  const std::string readme = ReadStart(directory / "README.md");
  const auto block = FrontMatterOf(readme);
  if (!block) return Json::object();
  try {
    Json card = ParseYaml(*block, "README.md");
    if (card.is_object()) return card;
  } catch (const Error&) {  // facts for the card are optional
  }
  return Json::object();
}

// A short text of one line.
std::optional<std::string> Line(const Json& object, const char* key) {
  const auto value = object.find(key);
  if (value == object.end() || !value->is_string()) return std::nullopt;
  const auto& text = value->get_ref<const std::string&>();
  if (text.empty() || text.size() > kMaxLineLength) return std::nullopt;
  if (text.find_first_of("\r\n") != std::string::npos) return std::nullopt;
  return text;
}

void ReadLicense(const Json& card, SourceFacts& facts) {
  facts.license = Line(card, "license");
  if (facts.license && !IsIdentifier(*facts.license)) facts.license.reset();
  if (facts.license != "other") return;
  facts.license_name = Line(card, "license_name");
  facts.license_link = Line(card, "license_link");
}

// `base_model` is a name or a list of them.
std::vector<std::string> BasesOf(const Json& card) {
  std::vector<std::string> bases;
  const auto value = card.find("base_model");
  if (value == card.end()) return bases;
  for (const Json& base : value->is_array() ? *value : Json::array({*value})) {
    if (!base.is_string() || !IsHubName(base.get_ref<const std::string&>())) return {};
    bases.push_back(base);
  }
  return bases;
}

// What transformers loaded before it saved this model; a folder of somebody's disk is none.
std::vector<std::string> LoadedFrom(const fs::path& directory) {
  try {
    const Json config = ParseJson(ReadStart(directory / "config.json"), "config.json");
    if (!config.is_object()) return {};
    const auto name = Line(config, "_name_or_path");
    if (name && name->find('/') != std::string::npos && IsHubName(*name)) return {*name};
  } catch (const Error&) {
  }
  return {};
}

std::optional<std::string> LicenseFromTitle(std::string_view text) {
  const std::string start = Lower(text.substr(0, 1000));
  for (const auto& [title, identifier] : kLicenseTitles) {
    if (start.find(title) != std::string::npos) return std::string(identifier);
  }
  return {};
}

std::optional<std::string> LicenseFileName(const fs::path& directory) {
  std::error_code error;
  for (const char* name : {"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"}) {
    if (fs::is_regular_file(directory / name, error)) return name;
  }
  return {};
}

// models--org--name/snapshots/<revision> is org/name.
std::optional<std::string> HubNameFromPath(const fs::path& directory) {
  const fs::path snapshots = directory.parent_path();
  constexpr std::string_view kPrefix = "models--";
  const std::string folder = snapshots.parent_path().filename().string();
  if (snapshots.filename() != "snapshots" || !folder.starts_with(kPrefix)) return std::nullopt;
  std::string name = folder.substr(kPrefix.size());
  const std::size_t separator = name.find("--");
  if (separator != std::string::npos) {
    name = fmt::format("{}/{}", name.substr(0, separator), name.substr(separator + 2));
  }
  if (!IsHubName(name)) return std::nullopt;
  return name;
}

}  // namespace

SourceFacts ReadSourceFacts(const fs::path& model_directory) {
  std::error_code error;
  fs::path directory = fs::absolute(model_directory, error).lexically_normal();
  if (!directory.has_filename()) directory = directory.parent_path();  // a trailing slash
  SourceFacts facts;
  facts.hub_name = HubNameFromPath(directory);
  facts.name = facts.hub_name.value_or(directory.filename().string());
  const Json card = CardOf(directory);
  if (!facts.hub_name) facts.ancestors = BasesOf(card);
  if (!facts.hub_name && facts.ancestors.empty()) facts.ancestors = LoadedFrom(directory);
  ReadLicense(card, facts);
  facts.license_file = LicenseFileName(directory);
  if (!facts.license && facts.license_file) {
    facts.license = LicenseFromTitle(ReadStart(directory / *facts.license_file));
  }
  return facts;
}

}  // namespace narrow
