// Files whose names the user gives (--json and its kin): written as a shell's redirection would,
// but whole or not at all where that can be had.
#pragma once

#include <filesystem>
#include <string_view>

namespace narrow {

// What can be known of WriteNamedFile before the work whose result it keeps. `flag` names it in
// messages. Throws: kInvalidArgument for a directory; kIo for what may not be written to.
void CheckNamedFile(const std::filesystem::path& path, std::string_view flag);

// A regular file holds either the old or the whole new contents, and keeps its permissions; it is
// replaced where a symbolic link leads, and written in place where its directory takes no new
// files. Missing parent directories are made. Pipes and devices are written to, and so is a file
// that the program has open for writing already (/dev/stdout): there the contents come next.
// Throws: kIo.
void WriteNamedFile(const std::filesystem::path& path, std::string_view contents);

}  // namespace narrow
