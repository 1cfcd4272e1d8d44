#include "import/dequantize.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "io/file.h"
#include "tensor/scalar_types.h"
#include "tests/build_paths.h"

namespace narrow {
namespace {

// testdata/blocks.bin, made by tools/make_gguf_golden.py with the decoders of gguf-py.
class Golden {
 public:
  Golden() : bytes_(ReadWholeFile(NARROW_SOURCE_DIR "/src/import/testdata/blocks.bin", 1 << 20)) {}
  bool AtEnd() const { return offset_ == bytes_.size(); }
  template <typename T>
  std::vector<T> Take(int64_t count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    const std::size_t size = values.size() * sizeof(T);
    NARROW_CHECK(size <= bytes_.size() - offset_);
    std::memcpy(values.data(), bytes_.data() + offset_, size);
    offset_ += size;
    return values;
  }

 private:
  std::string bytes_;
  std::size_t offset_ = 0;
};

TEST(Dequantize, EveryTypeBitForBitAsThePythonPackage) {
  Golden golden;
  int types = 0;
  for (; !golden.AtEnd(); ++types) {
    const std::vector<uint32_t> head = golden.Take<uint32_t>(2);
    const auto type = static_cast<GgufType>(head[0]);
    const GgufTypeInfo& info = Info(type);
    SCOPED_TRACE(info.name);
    ASSERT_TRUE(CanDequantize(type));
    const auto blocks = golden.Take<std::byte>(head[1] * info.block_bytes);
    const auto expected = golden.Take<uint32_t>(head[1] * info.block_elements);
    std::vector<float> values(expected.size());
    Dequantize(type, blocks, values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), expected[i]) << i << ": " << values[i];
    }
  }
  EXPECT_EQ(types, 13);
}

TEST(Dequantize, EveryF16AndBf16Pattern) {
  std::vector<uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint16_t>(i);
  std::vector<float> values(patterns.size());
  Dequantize(GgufType::kF16, std::as_bytes(std::span(patterns)), values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]),
              std::bit_cast<uint32_t>(ToFloat(Float16{patterns[i]})));
  }
  Dequantize(GgufType::kBF16, std::as_bytes(std::span(patterns)), values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), static_cast<uint32_t>(i << 16));
  }
}

TEST(Dequantize, KnowsWhatItDoesNotKnow) {
  for (const GgufType type :
       {GgufType::kIQ4_NL, GgufType::kQ8_K, GgufType::kI32, GgufType::kMXFP4}) {
    EXPECT_FALSE(CanDequantize(type)) << Info(type).name;
  }
}

}  // namespace
}  // namespace narrow
