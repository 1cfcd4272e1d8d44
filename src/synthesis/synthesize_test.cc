#include "synthesis/synthesize.h"

#include <gtest/gtest.h>

#include "base/memory_use.h"
#include "base/parallel.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "io/scratch_directory.h"
#include "synthesis/byte_tokenizer.h"
#include "synthesis/presets.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

TensorToFill Matrix(const std::string& name, int64_t rows, int64_t columns) {
  return {TensorSpec{name, Dtype::kBF16, {rows, columns}}};
}

std::string Written(const WeightFilesRequest& request) {
  const ScratchDirectory directory;
  SilentProgress progress;
  WriteWeightFiles(request, directory.path(), progress);
  return directory.Get("model.safetensors");
}

// Several chunks, several blocks in a chunk, and a last one that is not full.
WeightFilesRequest SomeFiles() {
  WeightFilesRequest request;
  request.tensors = {Matrix("a", 5003, 2050), Matrix("b", 7, 3)};
  request.seed = 11;
  return request;
}

TEST(WriteWeightFiles, IsTheSameForAnyNumberOfThreads) {
  const WeightFilesRequest request = SomeFiles();
  SetThreadCount(1);
  const std::string one = Written(request);
  SetThreadCount(2);
  const std::string two = Written(request);
  SetThreadCount(3);
  const std::string three = Written(request);
  SetThreadCount(0);
  EXPECT_GT(one.size(), std::size_t{5003} * 2050 * 2);
  EXPECT_TRUE(one == two);
  EXPECT_TRUE(one == three);
  WeightFilesRequest other = request;
  other.seed = 12;
  EXPECT_FALSE(Written(other) == one);
}

TEST(WriteWeightFiles, WritesTheRowsOfTheGenerator) {
  const WeightFilesRequest request = SomeFiles();
  const ScratchDirectory directory;
  SilentProgress progress;
  EXPECT_EQ(WriteWeightFiles(request, directory.path(), progress), (5003 * 2050 + 21) * 2);
  const InputFile file(directory.path() / "model.safetensors");
  for (const SafetensorsEntry& entry : ReadSafetensorsHeader(file).entries) {
    const TensorToFill& tensor = request.tensors[entry.name == "a" ? 0 : 1];
    ASSERT_EQ(entry.shape, tensor.spec.shape);
    const WeightGenerator generator(tensor, request.seed);
    std::vector<Bfloat16> expected(static_cast<std::size_t>(generator.columns()));
    std::vector<Bfloat16> found = expected;
    for (int64_t r = 0; r < generator.rows(); ++r) {
      generator.FillRow(r, expected);
      file.ReadAt(entry.begin + r * generator.columns() * 2,
                  std::as_writable_bytes(std::span(found)));
      ASSERT_EQ(found, expected) << entry.name << " row " << r;
    }
  }
}

TEST(WriteWeightFiles, NeedsNoMoreMemoryForLargerTensors) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps what was freed";
#endif
  WeightFilesRequest request;
  request.tensors = {Matrix("a", 2048, 8192)};  // 32 MiB
  const ScratchDirectory directory;
  SilentProgress progress;
  WriteWeightFiles(request, directory.path(), progress);
  const int64_t before = PeakResidentBytes();
  request.tensors = {Matrix("a", 8192, 8192)};  // 128 MiB
  WriteWeightFiles(request, directory.path(), progress);
  EXPECT_LT(PeakResidentBytes() - before, int64_t{24} << 20);
}

TEST(WriteWeightFiles, RefusesBeforeItWrites) {
  WeightFilesRequest request = SomeFiles();
  request.tensors.push_back(Matrix("c", 0, 3));
  const ScratchDirectory directory;
  SilentProgress progress;
  ExpectError(ErrorCode::kInvalidArgument, "tensor c",
              [&] { WriteWeightFiles(request, directory.path(), progress); });
  request.tensors.back() = Matrix("a", 1, 3);
  ExpectError(ErrorCode::kInvalidArgument, "two tensors",
              [&] { WriteWeightFiles(request, directory.path(), progress); });
  EXPECT_EQ(directory.Count(), 0);
}

TEST(ByteTokenizer, GivesBytesAfterTheBeginToken) {
  const ScratchDirectory directory;
  WriteByteTokenizer(directory.path());
  const Tokenizer tokenizer = Tokenizer::FromDirectory(directory.path().string());
  EXPECT_EQ(tokenizer.vocabulary_size(), kByteTokenizerSize);
  std::string text = "Two words,  é 中 😀\n\t0123";
  for (char c = 1; c < 127; ++c) text += c;
  std::vector<int32_t> bytes;
  for (const char c : text) bytes.push_back(static_cast<uint8_t>(c));
  EXPECT_EQ(tokenizer.Encode(text, SpecialTokens::kNone), bytes);
  bytes.insert(bytes.begin(), kByteTokenizerBegin);
  EXPECT_EQ(tokenizer.Encode(text, SpecialTokens::kAdd), bytes);
  EXPECT_EQ(tokenizer.Encode("<|end_of_text|>", SpecialTokens::kNone),
            std::vector<int32_t>{kByteTokenizerEnd});
}

TEST(Presets, UnknownOnesAreRefusedWithTheKnown) {
  for (const ModelPreset& preset : ModelPresets())
    EXPECT_TRUE(PresetConfig(preset.name).is_object());
  ExpectError(ErrorCode::kInvalidArgument, "expected one of llama-3.1-405b, llama-3.1-70b",
              [] { PresetConfig("gpt"); });
}

}  // namespace
}  // namespace narrow
