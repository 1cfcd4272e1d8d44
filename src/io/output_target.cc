#include "io/output_target.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "io/directory_lock.h"
#include "io/json.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kNamesShown = 3;

// Entries but the lock file, in order of name. Throws: kIo.
std::vector<std::string> NamesIn(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name != kLockName) names.push_back(name);
  }
  if (error) {
    Fail(ErrorCode::kIo, "{}: cannot be examined: {}", directory.string(), error.message());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// "config.json", "notes.txt" and 3 more
std::string Listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShown); ++i) {
    text += (i == 0 ? "" : ", ") + Quoted(names[i]);
  }
  if (names.size() > kNamesShown) text += fmt::format(" and {} more", names.size() - kNamesShown);
  return text;
}

bool IsMountPoint(const fs::path& path) {
  struct statx facts = {};
  return ::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_INO, &facts) == 0 &&
         (facts.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

}  // namespace

std::optional<OutputMarker> CheckReplaceable(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(fs::symlink_status(path, error))) {
    Fail(ErrorCode::kInvalidArgument, "{} exists and is not a directory; choose another output",
         path.string());
  }
  if (IsMountPoint(path)) {
    Fail(ErrorCode::kInvalidArgument,
         "{} is a mount point, which cannot be replaced; choose a directory inside of it",
         path.string());
  }
  const std::vector<std::string> names = NamesIn(path);
  if (names.empty()) return std::nullopt;
  std::optional<OutputMarker> marker;
  const bool older = std::ranges::count(names, "narrow-report.json") > 0;
  std::string found =
      fmt::format("it holds {}{} and no {}, so narrow cannot know it as its own", Listed(names),
                  older ? " (as from a version of narrow that wrote no marker)" : "", kMarkerName);
  try {
    marker = ReadOutputMarker(path);
    if (marker) found = FindForeign(path, *marker).value_or("");
  } catch (const Error& damaged) {
    found = damaged.what();
  }
  if (!found.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "{} is not replaced: {}; choose another output, or remove what you do not need",
         path.string(), found);
  }
  return marker;
}

}  // namespace narrow
