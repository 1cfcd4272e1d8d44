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

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

class Decompressor {
 public:
  explicit Decompressor(std::string path)
      : path_(std::move(path)), context_(ZSTD_createDCtx()), output_(ZSTD_DStreamOutSize()) {
    NARROW_CHECK(context_ != nullptr);
    Check(ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxWindowLog));
  }

  // False once the sink wants no more.
  bool Add(std::span<const std::byte> input, const ByteSink& sink) {
    ZSTD_inBuffer in = {input.data(), input.size(), 0};
    bool output_was_full = false;
    while (in.pos < in.size || output_was_full) {
      ZSTD_outBuffer out = {output_.data(), output_.size(), 0};
      missing_ = Check(ZSTD_decompressStream(context_.get(), &out, &in));
      output_was_full = missing_ != 0 && out.pos == out.size;
      if (out.pos > 0 && !sink({output_.data(), out.pos})) return false;
    }
    return true;
  }

  void CheckComplete() const {
    if (missing_ == 0) return;
    Fail(ErrorCode::kCorruptInput,
         "{}: the Zstandard data ends in the middle of a frame; the file is truncated", path_);
  }

 private:
  std::size_t Check(std::size_t result) const {
    if (ZSTD_isError(result) == 0) return result;
    if (ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge) {
      Fail(ErrorCode::kUnsupported,
           "{}: Zstandard window larger than {} MiB; compress the file again without --long", path_,
           (int64_t{1} << kMaxWindowLog) >> 20);
    }
    Fail(ErrorCode::kCorruptInput, "{}: not Zstandard data, or damaged: {}", path_,
         ZSTD_getErrorName(result));
  }

  std::string path_;
  std::unique_ptr<ZSTD_DCtx, FreeContext> context_;
  std::vector<char> output_;
  std::size_t missing_ = 0;  // 0 between frames
};

}  // namespace

void DecompressZstdFile(const InputFile& file, const ByteSink& sink) {
  Decompressor decompressor(file.path().string());
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
