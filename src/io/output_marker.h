// The file by which narrow knows an output directory as its own, and every file in it.
// Format: docs/formats/checkpoint.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "io/json.h"

namespace narrow {

inline constexpr std::string_view kMarkerName = "narrow-output.json";

struct OutputMarker {
  // A file as it was written: its size, and a hash of its contents (of large ones, of samples).
  struct File {
    int64_t bytes = 0;
    std::string hash;
    friend bool operator==(const File&, const File&) = default;
  };

  std::string program;  // "narrow 0.1.0"
  std::string command;  // "quantize", "import", "synthesize"
  // Of quantize: the channels of the heads of K and V are "fitted" or as they were ("none").
  std::optional<std::string> head_basis;
  std::string job;                    // the run it is of, by a name that no other run has
  std::map<std::string, File> files;  // by name relative to the directory, with '/'
};

// Lists what lies in `directory` and writes the marker beside it. Throws: kIo.
void WriteOutputMarker(const std::filesystem::path& directory, OutputMarker marker);

// Throws: kCorruptInput for what is no marker, or lists files outside of its directory.
OutputMarker ParseOutputMarker(const Json& json, const std::string& what);

// Nothing when the directory has none. Throws: as ParseOutputMarker and ReadJsonFile.
std::optional<OutputMarker> ReadOutputMarker(const std::filesystem::path& directory);

// One sentence on the first thing in `directory` that is not as the marker says: a file or
// directory that narrow did not write, or a file that was changed since. Files that are missing do
// not count. Throws: kIo.
std::optional<std::string> FindForeign(const std::filesystem::path& directory,
                                       const OutputMarker& marker);

// Removes the marker's files, the marker, and the directories that are empty then; the directory
// itself with them. What else lies there stays. Throws: kIo naming what could not be removed.
void RemoveMarked(const std::filesystem::path& directory, const OutputMarker& marker);

}  // namespace narrow
