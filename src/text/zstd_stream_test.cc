#include "text/zstd_stream.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>

#include "io/scratch_directory.h"
#include "text/compressed.h"

namespace narrow {
namespace {

std::string Decompress(const std::filesystem::path& path) {
  std::string text;
  DecompressZstdFile(InputFile(path), [&](std::string_view bytes) {
    text += bytes;
    return true;
  });
  return text;
}

// Longer than the buffers, and hard to compress, so that input and output both come in pieces.
std::string Noise(std::size_t bytes) {
  std::mt19937 random(7);
  std::string text(bytes, '\0');
  for (char& c : text) c = static_cast<char>('a' + random() % 26);
  return text;
}

TEST(ZstdStream, GivesBackWhatWasCompressed) {
  const ScratchDirectory scratch;
  for (const std::size_t bytes : {0, 1, 131072, 131073, 1000003}) {
    const std::string noise = Noise(bytes);
    EXPECT_EQ(Decompress(scratch.Put("noise.zst", Compressed(noise))), noise) << bytes;
    const std::string zeros(bytes, '0');
    EXPECT_EQ(Decompress(scratch.Put("zeros.zst", Compressed(zeros))), zeros) << bytes;
  }
  EXPECT_EQ(Decompress(scratch.Put("empty.zst", "")), "");
}

TEST(ZstdStream, ReadsFramesOneAfterTheOther) {
  const ScratchDirectory scratch;
  const auto path = scratch.Put("two.zst", Compressed("one ") + Compressed("") + Compressed("two"));
  EXPECT_EQ(Decompress(path), "one two");
}

TEST(ZstdStream, StopsWhenTheSinkHasEnough) {
  const ScratchDirectory scratch;
  const std::string frame = Compressed(Noise(1000000));
  const auto path = scratch.Put("damaged-later.zst", frame + "not a frame");
  int calls = 0;
  DecompressZstdFile(InputFile(path), [&](std::string_view) { return ++calls < 2; });
  EXPECT_EQ(calls, 2);
}

TEST(ZstdStream, EveryTruncationIsRefused) {
  const ScratchDirectory scratch;
  const std::string frame = Compressed(Noise(100));
  for (std::size_t bytes = 1; bytes < frame.size(); ++bytes) {
    const auto path = scratch.Put("cut.zst", std::string_view(frame).substr(0, bytes));
    ExpectError(ErrorCode::kCorruptInput, "truncated", [&] { Decompress(path); });
  }
}

TEST(ZstdStream, DamageIsRefused) {
  const ScratchDirectory scratch;
  const std::string text = Noise(100);
  const std::string frame = Compressed(text);
  ExpectError(ErrorCode::kCorruptInput, "not Zstandard data, or damaged: Unknown frame descriptor",
              [&] { Decompress(scratch.Put("plain.zst", "{\"text\": \"plain\"}\n")); });
  ExpectError(ErrorCode::kCorruptInput, "not Zstandard data, or damaged",
              [&] { Decompress(scratch.Put("tail.zst", frame + "tail")); });
  for (std::size_t i = 0; i < frame.size(); ++i) {
    std::string damaged = frame;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    const auto path = scratch.Put("damaged.zst", damaged);
    try {
      EXPECT_EQ(Decompress(path), text) << i;  // a header bit without meaning for the contents
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == ErrorCode::kCorruptInput ||
                  error.code() == ErrorCode::kUnsupported)
          << error.what();
    }
  }
}

TEST(ZstdStream, AHugeWindowIsRefusedBeforeItIsAllocated) {
  const ScratchDirectory scratch;
  // Magic number; no checksum, no sizes; window descriptor: exponent 21 (2^31 bytes), mantissa 0.
  const std::string header = {'\x28', '\xB5', '\x2F', '\xFD', '\x00', static_cast<char>(21 << 3)};
  ExpectError(ErrorCode::kUnsupported, "window larger than 128 MiB",
              [&] { Decompress(scratch.Put("long.zst", header + std::string(16, '\0'))); });
  EXPECT_EQ(Decompress(scratch.Put("limit.zst", Compressed("text", 27))), "text");
}

}  // namespace
}  // namespace narrow
