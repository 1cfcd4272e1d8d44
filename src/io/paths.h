// Where a path leads, and that nothing is written where something is read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace narrow {

// Absolute, without ".", ".." or links, as far as the path exists; a link that leads nowhere stands
// for the place it names. Pipes and devices stay as they are named. A trailing slash is dropped.
// Throws: kIo for links that lead in a circle.
std::filesystem::path ResolvePath(const std::filesystem::path& path);

// Makes a directory with its missing parents. Returns the topmost one that was made, empty when all
// were there. Throws: kIo.
std::filesystem::path MakeDirectories(const std::filesystem::path& path);

// The path or the nearest directory above it that is there.
std::filesystem::path ExistingAncestor(std::filesystem::path path);

// Free bytes of the disk that ExistingAncestor(path) lies on; more than anything needs where the
// file system states no size. Throws: kIo.
int64_t FreeBytes(const std::filesystem::path& path);

// Removes empty directories from `path` up to `top`, which MakeDirectories returned.
void RemoveEmptyDirectories(std::filesystem::path path, const std::filesystem::path& top) noexcept;

// A path and what the user knows it by ("--model_dir").
struct NamedPath {
  std::string name;
  std::filesystem::path path;
};

// Throws kInvalidArgument, naming both, when something that is written is something that is read,
// or lies in it, or holds it: by path, through links, or as the same file or directory under
// another name. What the links in a directory that is read lead to is read with it. Paths need not
// exist.
void CheckApart(std::span<const NamedPath> written, std::span<const NamedPath> read);

}  // namespace narrow
