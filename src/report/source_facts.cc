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
#include "io/file.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxReadBytes = 64 * 1024;
constexpr std::size_t kMaxIdentifierLength = 64;

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

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\"'";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

bool IsIdentifier(std::string_view text) {
  return !text.empty() && text.size() <= kMaxIdentifierLength &&
         std::ranges::all_of(text, [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                  std::string_view("._-+").find(c) != std::string_view::npos;
         });
}

// `license:` of the YAML block that a README starts with.
std::optional<std::string> FrontMatterLicense(std::string_view readme) {
  constexpr std::string_view kKey = "license:";
  for (bool first = true; !readme.empty(); first = false) {
    const std::size_t end = std::min(readme.find('\n'), readme.size());
    const std::string_view line = readme.substr(0, end);
    readme.remove_prefix(std::min(end + 1, readme.size()));
    const bool fence = Trim(line) == "---";
    if (fence != first) return {};  // no block, or its end
    if (!line.starts_with(kKey)) continue;
    const std::string_view value = Trim(line.substr(kKey.size()));
    if (IsIdentifier(value)) return std::string(value);
    return {};
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
std::string NameFromPath(const fs::path& directory) {
  const fs::path snapshots = directory.parent_path();
  constexpr std::string_view kPrefix = "models--";
  const std::string folder = snapshots.parent_path().filename().string();
  if (snapshots.filename() != "snapshots" || !folder.starts_with(kPrefix)) {
    return directory.filename().string();
  }
  std::string name = folder.substr(kPrefix.size());
  const std::size_t separator = name.find("--");
  if (separator == std::string::npos) return name;
  return name.substr(0, separator) + "/" + name.substr(separator + 2);
}

}  // namespace

SourceFacts ReadSourceFacts(const fs::path& model_directory) {
  std::error_code error;
  fs::path directory = fs::absolute(model_directory, error).lexically_normal();
  if (!directory.has_filename()) directory = directory.parent_path();  // a trailing slash
  SourceFacts facts;
  facts.name = NameFromPath(directory);
  facts.license = FrontMatterLicense(ReadStart(directory / "README.md"));
  facts.license_file = LicenseFileName(directory);
  if (!facts.license && facts.license_file) {
    facts.license = LicenseFromTitle(ReadStart(directory / *facts.license_file));
  }
  return facts;
}

}  // namespace narrow
