// Decompression of Zstandard files in bounded memory.
#pragma once

#include <functional>
#include <string_view>

#include "io/file.h"

namespace narrow {

// Takes the next bytes of a file; returns false to stop reading.
using ByteSink = std::function<bool(std::string_view)>;

// Hands the decompressed bytes of all frames to `sink` until it returns false. Memory: the frame's
// window, at most 128 MiB, and two small buffers, whatever the file says about its contents.
// Throws: kCorruptInput (not Zstandard, damaged, truncated); kUnsupported (a larger window); kIo;
// what the sink throws.
void DecompressZstdFile(const InputFile& file, const ByteSink& sink);

}  // namespace narrow
