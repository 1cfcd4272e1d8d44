#include "io/output_marker.h"

#include <algorithm>
#include <set>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fnv_hash.h"
#include "io/directory_lock.h"
#include "io/file.h"
#include "io/json.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFormat = 1;
constexpr int64_t kMaxMarkerBytes = int64_t{64} << 20;
// Files up to this size are hashed whole; of larger ones blocks from all over, which any training
// or conversion of the weights changes.
constexpr int64_t kHashedWhole = int64_t{64} << 20;
constexpr int64_t kBlockBytes = int64_t{64} << 10;
constexpr int64_t kSamples = 64;

// Where narrow leaves nothing of a finished output's own.
bool IsBookkeeping(const std::string& name) { return name == kMarkerName || name == kLockName; }

OutputMarker::File Describe(const fs::path& path) {
  const InputFile file(path);
  const bool whole = file.size() <= kHashedWhole;
  const int64_t blocks = whole ? (file.size() + kBlockBytes - 1) / kBlockBytes : kSamples;
  std::vector<std::byte> block(static_cast<std::size_t>(kBlockBytes));
  uint64_t hash = kFnvStart;
  for (int64_t i = 0; i < blocks; ++i) {
    // The last sample is the end of the file.
    const int64_t offset =
        whole ? i * kBlockBytes
              : (file.size() - kBlockBytes) / (kSamples - 1) * i +
                    (file.size() - kBlockBytes) % (kSamples - 1) * i / (kSamples - 1);
    const auto count = static_cast<std::size_t>(std::min(kBlockBytes, file.size() - offset));
    file.ReadAt(offset, std::span(block).first(count));
    hash = FnvHash(std::span<const std::byte>(block).first(count), hash);
  }
  return {file.size(), fmt::format("{:016x}", hash)};
}

// Calls `visit(name, entry)` for everything below `directory`, parents first. Throws: kIo.
template <typename Visit>
void ForEachEntry(const fs::path& directory, const Visit& visit) {
  std::error_code error;
  for (fs::recursive_directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    visit(entry->path().lexically_relative(directory).generic_string(), *entry);
  }
  if (error) Fail(ErrorCode::kIo, "{}: cannot be listed: {}", directory.string(), error.message());
}

// A name that stays inside of the directory.
bool IsPlainName(const std::string& name) {
  const fs::path path(name);
  return !name.empty() && name.find('\0') == name.npos && !path.is_absolute() &&
         path.lexically_normal() == path && std::ranges::find(path, fs::path("..")) == path.end() &&
         path.has_filename();
}

std::set<std::string> DirectoriesOf(const OutputMarker& marker) {
  std::set<std::string> directories;
  for (const auto& [name, unused] : marker.files) {
    for (fs::path path = fs::path(name).parent_path(); !path.empty(); path = path.parent_path()) {
      directories.insert(path.generic_string());
    }
  }
  return directories;
}

}  // namespace

void WriteOutputMarker(const fs::path& directory, OutputMarker marker) {
  marker.files.clear();
  ForEachEntry(directory, [&](const std::string& name, const fs::directory_entry& entry) {
    if (entry.is_regular_file() && !IsBookkeeping(name)) marker.files[name] = Describe(entry);
  });
  Json json = Json::object();
  json["format"] = kFormat;
  json["program"] = marker.program;
  json["command"] = marker.command;
  if (marker.head_basis) json["head_basis"] = *marker.head_basis;
  json["job"] = marker.job;
  json["files"] = Json::object();
  for (const auto& [name, file] : marker.files) {
    json["files"][name] = {{"bytes", file.bytes}, {"fnv1a", file.hash}};
  }
  WriteFileAtomically(directory / kMarkerName,
                      json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::optional<OutputMarker> ReadOutputMarker(const fs::path& directory) {
  const fs::path path = directory / kMarkerName;
  std::error_code error;
  if (!fs::exists(fs::symlink_status(path, error))) return std::nullopt;
  return ParseOutputMarker(ReadJsonFile(path.string(), {.max_bytes = kMaxMarkerBytes}),
                           path.string());
}

OutputMarker ParseOutputMarker(const Json& json, const std::string& what) {
  const auto damaged = [&](const char* reason) {
    Fail(ErrorCode::kCorruptInput, "{}: not a marker of narrow's: {}", what, reason);
  };
  if (!json.is_object()) damaged("expected an object");
  if (RequiredInt(json, "format", what) != kFormat) damaged("its format is of another version");
  OutputMarker marker;
  marker.program = RequiredString(json, "program", what);
  marker.command = RequiredString(json, "command", what);
  marker.head_basis = OptionalString(json, "head_basis", what);
  marker.job = RequiredString(json, "job", what);
  const Json* files = OptionalObject(json, "files", what);
  if (files == nullptr) damaged("it lists no files");
  for (const auto& [name, file] : files->items()) {
    if (!IsPlainName(name) || !file.is_object()) damaged("it lists a file outside the directory");
    marker.files[name] = {RequiredInt(file, "bytes", what), RequiredString(file, "fnv1a", what)};
  }
  return marker;
}

std::optional<std::string> FindForeign(const fs::path& directory, const OutputMarker& marker) {
  const std::set<std::string> directories = DirectoriesOf(marker);
  std::optional<std::string> found;
  ForEachEntry(directory, [&](const std::string& name, const fs::directory_entry& entry) {
    if (found || IsBookkeeping(name)) return;
    const fs::file_type type = entry.symlink_status().type();
    if (type == fs::file_type::directory && directories.contains(name)) return;
    const auto listed = marker.files.find(name);
    if (listed == marker.files.end() || type != fs::file_type::regular) {
      found = fmt::format("{} lies in it, which narrow did not write", Quoted(name));
    } else if (!(Describe(entry) == listed->second)) {
      found = fmt::format("{} in it was changed since narrow wrote it", Quoted(name));
    }
  });
  return found;
}

void RemoveMarked(const fs::path& directory, const OutputMarker& marker) {
  std::error_code error;
  const auto remove = [&](const fs::path& path) {
    fs::remove(path, error);
    if (error) {
      Fail(ErrorCode::kIo, "{} cannot be removed: {}", path.string(), error.message());
    }
  };
  for (const auto& [name, unused] : marker.files) remove(directory / name);
  // The deepest first.
  std::vector<std::string> directories;
  for (const std::string& name : DirectoriesOf(marker)) directories.push_back(name);
  std::ranges::sort(directories, std::greater<>());
  for (const std::string& name : directories) remove(directory / name);
  remove(directory / kMarkerName);
  remove(directory / kLockName);
  remove(directory);
}

}  // namespace narrow
