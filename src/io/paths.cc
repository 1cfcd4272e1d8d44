#include "io/paths.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxLinks = 40;  // as the kernel follows

using Identity = std::pair<dev_t, ino_t>;

std::optional<Identity> IdentityOf(const fs::path& path) {
  struct stat facts = {};
  if (::lstat(path.c_str(), &facts) != 0) return std::nullopt;
  return Identity{facts.st_dev, facts.st_ino};
}

// A resolved path with the identities of what exists of it.
struct Place {
  explicit Place(fs::path resolved) : path(std::move(resolved)), self(IdentityOf(path)) {
    for (fs::path above = path; above.has_relative_path(); above = above.parent_path()) {
      if (const auto identity = IdentityOf(above.parent_path())) parents.push_back(*identity);
    }
  }

  bool Is(const Place& other) const { return path == other.path || (self && self == other.self); }
  bool LiesIn(const Place& other) const {
    if (other.self && std::ranges::count(parents, *other.self) > 0) return true;
    const auto [end, unused] =
        std::mismatch(other.path.begin(), other.path.end(), path.begin(), path.end());
    return end == other.path.end() && path != other.path;
  }

  fs::path path;
  std::optional<Identity> self;
  std::vector<Identity> parents;
};

[[noreturn]] void Refuse(const NamedPath& written, const char* relation, const NamedPath& read) {
  Fail(ErrorCode::kInvalidArgument,
       "{} ({}) {} {} ({}); what is read and what is written must lie apart: choose another place",
       written.name, written.path.string(), relation, read.name, read.path.string());
}

std::vector<fs::path> EntriesOf(const fs::path& directory) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    entries.push_back(entry->path());
  }
  return entries;
}

// What is written and what is in it already, against what is read and what that leads to.
void CheckPair(const NamedPath& written, const Place& target, const NamedPath& read,
               const Place& source) {
  if (target.Is(source)) Refuse(written, "is", read);
  if (target.LiesIn(source)) Refuse(written, "lies in", read);
  if (source.LiesIn(target)) Refuse(written, "holds", read);
  std::vector<Identity> held;
  for (const fs::path& entry : EntriesOf(target.path)) {
    if (const auto identity = IdentityOf(entry)) held.push_back(*identity);
  }
  if (source.self && std::ranges::count(held, *source.self) > 0) Refuse(written, "holds", read);
  for (const fs::path& entry : EntriesOf(source.path)) {
    const Place place(ResolvePath(entry));
    if (!place.self) continue;
    if (target.Is(place)) Refuse(written, "is a file of", read);
    if (place.LiesIn(target) || std::ranges::count(held, *place.self) > 0) {
      Refuse(written, "holds a file of", read);
    }
  }
}

}  // namespace

fs::path ResolvePath(const fs::path& path) {
  std::error_code error;
  // Pipes of a shell (/dev/fd/63) and other descriptors have no place.
  const fs::file_type type = fs::status(path, error).type();
  if (type != fs::file_type::not_found && type != fs::file_type::none &&
      type != fs::file_type::regular && type != fs::file_type::directory) {
    return fs::absolute(path).lexically_normal();
  }
  fs::path resolved = path;
  for (int links = 0; links <= kMaxLinks; ++links) {
    resolved = fs::weakly_canonical(fs::absolute(resolved), error);
    if (error) break;
    if (!resolved.has_filename()) resolved = resolved.parent_path();
    // What is left of a link leads nowhere.
    const fs::path target = fs::read_symlink(resolved, error);
    if (error) return resolved;
    resolved = resolved.parent_path() / target;
  }
  Fail(ErrorCode::kIo, "{}: cannot be found: {}", path.string(),
       error ? error.message() : "its links lead in a circle");
}

fs::path MakeDirectories(const fs::path& path) {
  fs::path top;
  std::error_code error;
  for (fs::path missing = path; !fs::exists(missing, error) && missing.has_relative_path();
       missing = missing.parent_path()) {
    top = missing;
  }
  fs::create_directories(path, error);
  if (!error && !fs::is_directory(path, error))
    error = std::make_error_code(std::errc::not_a_directory);
  if (error) {
    if (!top.empty()) RemoveEmptyDirectories(path, top);
    Fail(ErrorCode::kIo, "{} cannot be created: {}", path.string(), error.message());
  }
  return top;
}

std::filesystem::path ExistingAncestor(std::filesystem::path path) {
  std::error_code ignored;
  path = std::filesystem::absolute(path).lexically_normal();
  while (!std::filesystem::is_directory(path, ignored) && path.has_relative_path()) {
    path = path.parent_path();
  }
  return path;
}

int64_t FreeBytes(const std::filesystem::path& path) {
  const std::filesystem::path existing = ExistingAncestor(path);
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(existing, error);
  if (error) {
    Fail(ErrorCode::kIo, "{}: the free space cannot be found out: {}", existing.string(),
         error.message());
  }
  if (space.capacity == 0) return std::numeric_limits<int64_t>::max();
  return static_cast<int64_t>(space.available);
}

void RemoveEmptyDirectories(fs::path path, const fs::path& top) noexcept {
  if (top.empty()) return;
  for (;; path = path.parent_path()) {
    // What is not there was never made; what is not empty stays, and all above it.
    if (::rmdir(path.c_str()) != 0 && errno != ENOENT) return;
    if (path == top || !path.has_relative_path()) return;
  }
}

void CheckApart(std::span<const NamedPath> written, std::span<const NamedPath> read) {
  for (const NamedPath& to : written) {
    if (to.path.empty()) continue;
    const Place target(ResolvePath(to.path));
    for (const NamedPath& from : read) {
      if (!from.path.empty()) CheckPair(to, target, from, Place(ResolvePath(from.path)));
    }
  }
}

}  // namespace narrow
