// Decompression of Zstandard files in bounded memory.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"

namespace narrow {

// Takes the next bytes of a file; returns false to stop reading.
using ByteSink = std::function<bool(std::string_view)>;

// Hands the decompressed bytes of all frames to `sink` until it returns false. Memory: the frame's
// window, at most 128 MiB, and two small buffers, whatever the file says about its contents.
// Throws: kCorruptInput (not Zstandard, damaged, truncated); kUnsupported (a larger window); kIo;
// what the sink throws.
void DecompressZstdFile(const InputFile& file, const ByteSink& sink);

// The same for bytes that come in pieces. Thread-compatible.
class ZstdDecompressor {
 public:
  // `path` names the source in messages.
  explicit ZstdDecompressor(std::string path);
  ~ZstdDecompressor();
  ZstdDecompressor(const ZstdDecompressor&) = delete;
  ZstdDecompressor& operator=(const ZstdDecompressor&) = delete;

  // False once the sink wants no more. Throws: as DecompressZstdFile.
  bool Add(std::span<const std::byte> input, const ByteSink& sink);
  // Throws: kCorruptInput in the middle of a frame.
  void CheckComplete() const;

 private:
  std::size_t Check(std::size_t result) const;

  struct Context;
  std::string path_;
  std::unique_ptr<Context> context_;
  std::vector<char> output_;
  std::size_t missing_ = 0;  // 0 between frames
};

}  // namespace narrow
