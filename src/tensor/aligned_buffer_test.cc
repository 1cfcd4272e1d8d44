#include <gtest/gtest.h>

#include <memory>

#include "tensor/tensor.h"

namespace narrow {
namespace {

TEST(AlignedBuffer, IsAligned) {
  for (int64_t count = 0; count < 300; ++count) {
    const AlignedBuffer<char> buffer(count);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % AlignedBuffer<char>::kAlignment, 0);
    EXPECT_EQ(buffer.size(), count);
  }
}

TEST(AlignedBuffer, MovesItsMemory) {
  AlignedBuffer<int> from(3);
  from[2] = 7;
  const int* const data = from.data();
  AlignedBuffer<int> to;
  to = std::move(from);
  EXPECT_EQ(to.data(), data);
  EXPECT_EQ(to[2], 7);
  EXPECT_EQ(from.size(), 0);
  EXPECT_EQ(from.data(), nullptr);
}

// A heap must not grow by buffers of one size that come and go between others that stay.
TEST(AlignedBuffer, TakesFreedMemoryOfTheSameSizeAgain) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps freed memory apart";
#endif
  constexpr int64_t kBytes = 100'000;  // below the size that glibc maps by itself
  auto buffer = std::make_unique<AlignedBuffer<char>>(kBytes);
  const AlignedBuffer<char> stays(kBytes);  // what is freed does not join the end of the heap
  const char* const data = buffer->data();
  buffer.reset();
  EXPECT_EQ(AlignedBuffer<char>(kBytes).data(), data);
}

}  // namespace
}  // namespace narrow
