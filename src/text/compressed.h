// For tests: Zstandard frames.
#pragma once

#include <gtest/gtest.h>
#include <zstd.h>

#include <string>
#include <string_view>

namespace narrow {

// One frame of `text` with the given window; the size of the contents is not written.
inline std::string Compressed(std::string_view text, int window_log = 20) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  std::string compressed(ZSTD_compressBound(text.size()) + 64, '\0');
  ZSTD_inBuffer in = {text.data(), text.size(), 0};
  ZSTD_outBuffer out = {compressed.data(), compressed.size(), 0};
  // In two steps, or the library shrinks the window to the text.
  size_t left = ZSTD_compressStream2(context, &out, &in, ZSTD_e_flush);
  if (ZSTD_isError(left) == 0) left = ZSTD_compressStream2(context, &out, &in, ZSTD_e_end);
  EXPECT_EQ(left, 0u);
  ZSTD_freeCCtx(context);
  compressed.resize(out.pos);
  return compressed;
}

}  // namespace narrow
