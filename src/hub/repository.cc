#include "hub/repository.h"

#include <algorithm>
#include <cctype>

namespace narrow {
namespace {

constexpr std::size_t kMaxNameBytes = 96;
constexpr std::size_t kMaxPartBytes = 255;
constexpr std::size_t kMaxPathBytes = 1024;

bool IsWord(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x80 && (std::isalnum(byte) != 0 || c == '_');
}

// One half of "org/name".
bool IsNamePart(std::string_view text) {
  return !text.empty() && text.size() <= kMaxNameBytes && IsWord(text.front()) &&
         IsWord(text.back()) &&
         std::ranges::all_of(text, [](char c) { return IsWord(c) || c == '-' || c == '.'; });
}

bool HasForbiddenPart(std::string_view text) {
  return text.find("--") != text.npos || text.find("..") != text.npos || text.ends_with(".git");
}

}  // namespace

std::string RepositoryName::CacheFolder() const {
  std::string folder = kind == Kind::kModel ? "models--" : "datasets--";
  for (const char c : id) folder += c == '/' ? std::string("--") : std::string(1, c);
  return folder;
}

std::string RepositoryName::Shown() const { return revision == "main" ? id : id + "@" + revision; }

std::optional<RepositoryName> ParseRepositoryName(std::string_view text,
                                                  RepositoryName::Kind kind) {
  RepositoryName name;
  name.kind = kind;
  if (const std::size_t at = text.find('@'); at != text.npos) {
    name.revision = text.substr(at + 1);
    if (!IsSafePath(name.revision)) return std::nullopt;
    text = text.substr(0, at);
  }
  const std::size_t slash = text.find('/');
  if (slash == text.npos || !IsNamePart(text.substr(0, slash)) ||
      !IsNamePart(text.substr(slash + 1)) || HasForbiddenPart(text)) {
    return std::nullopt;
  }
  name.id = text;
  return name;
}

bool IsHubName(std::string_view text) {
  if (text.size() > kMaxNameBytes || HasForbiddenPart(text)) return false;
  const std::size_t slash = text.find('/');
  if (slash == text.npos) return IsNamePart(text);
  return IsNamePart(text.substr(0, slash)) && IsNamePart(text.substr(slash + 1));
}

bool IsHexadecimal(std::string_view text, std::size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

bool IsCommit(std::string_view revision) { return IsHexadecimal(revision, 40); }

bool IsSafePath(std::string_view path) {
  if (path.empty() || path.size() > kMaxPathBytes) return false;
  if (std::ranges::any_of(path, [](char c) {
        return static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '\\';
      })) {
    return false;
  }
  for (bool more = true; more;) {
    const std::size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == ".." || part.size() > kMaxPartBytes) return false;
    more = slash != path.npos;
    if (more) path.remove_prefix(slash + 1);
  }
  return true;
}

const HubFile* HubListing::Find(std::string_view path) const {
  const auto found = std::ranges::find(files, path, &HubFile::path);
  return found == files.end() ? nullptr : &*found;
}

}  // namespace narrow
