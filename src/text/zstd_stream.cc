#include "text/zstd_stream.h"

#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace narrow {
namespace {

constexpr int kMaxWindowLog = 27;  // the limit the zstd program has without --long

}  // namespace

struct ZstdDecompressor::Context {
  ZSTD_DCtx* handle = ZSTD_createDCtx();
  ~Context() { ZSTD_freeDCtx(handle); }
};

ZstdDecompressor::ZstdDecompressor(std::string path)
    : path_(std::move(path)),
      context_(std::make_unique<Context>()),
      output_(ZSTD_DStreamOutSize()) {
  NARROW_CHECK(context_->handle != nullptr);
  Check(ZSTD_DCtx_setParameter(context_->handle, ZSTD_d_windowLogMax, kMaxWindowLog));
}

ZstdDecompressor::~ZstdDecompressor() = default;

bool ZstdDecompressor::Add(std::span<const std::byte> input, const ByteSink& sink) {
  ZSTD_inBuffer in = {input.data(), input.size(), 0};
  bool output_was_full = false;
  while (in.pos < in.size || output_was_full) {
    ZSTD_outBuffer out = {output_.data(), output_.size(), 0};
    missing_ = Check(ZSTD_decompressStream(context_->handle, &out, &in));
    output_was_full = missing_ != 0 && out.pos == out.size;
    if (out.pos > 0 && !sink({output_.data(), out.pos})) return false;
  }
  return true;
}

void ZstdDecompressor::CheckComplete() const {
  if (missing_ == 0) return;
  Fail(ErrorCode::kCorruptInput,
       "{}: the Zstandard data ends in the middle of a frame; the file is truncated", path_);
}

std::size_t ZstdDecompressor::Check(std::size_t result) const {
  if (ZSTD_isError(result) == 0) return result;
  if (ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge) {
    Fail(ErrorCode::kUnsupported,
         "{}: Zstandard window larger than {} MiB; compress the file again without --long", path_,
         (int64_t{1} << kMaxWindowLog) >> 20);
  }
  Fail(ErrorCode::kCorruptInput, "{}: not Zstandard data, or damaged: {}", path_,
       ZSTD_getErrorName(result));
}

void DecompressZstdFile(const InputFile& file, const ByteSink& sink) {
  ZstdDecompressor decompressor(file.path().string());
  std::vector<std::byte> input(ZSTD_DStreamInSize());
  for (int64_t offset = 0; offset < file.size();) {
    const int64_t count = std::min<int64_t>(std::ssize(input), file.size() - offset);
    const std::span<std::byte> piece = std::span(input).first(static_cast<std::size_t>(count));
    file.ReadAt(offset, piece);
    if (!decompressor.Add(piece, sink)) return;
    offset += count;
  }
  decompressor.CheckComplete();
}

}  // namespace narrow
