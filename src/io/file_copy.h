// Whole files into a new directory: shared, cloned or copied.
#pragma once

#include <filesystem>

namespace narrow {

enum class FileCopy {
  kOwn,     // bytes of its own, shared with the source by the file system where that can (reflink)
  kLinked,  // a hard link: one file under two names
};

// Makes `to` of the regular file `from` (a link is followed). The source is never opened for
// writing. Throws: kIo naming the files; of a hard link between file systems it says what to do.
void CopyWholeFile(const std::filesystem::path& from, const std::filesystem::path& to,
                   FileCopy copy);

}  // namespace narrow
