// Random numbers that depend on a key and a position alone, so that every thread can make its own
// rows and the result is the same for any number of threads.
#pragma once

#include <cstdint>
#include <string_view>

namespace narrow {

// A bijection of 64-bit words in which every input bit reaches every output bit.
// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014); the
// constants are variant 13 of David Stafford, "Better bit mixing" (2011).
constexpr uint64_t MixBits(uint64_t word) {
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
  return word ^ (word >> 31);
}

// A key made of another one and a number or a name.
constexpr uint64_t DeriveKey(uint64_t key, uint64_t number) {
  return MixBits(MixBits(key + 0x9E3779B97F4A7C15u) ^ number);
}
constexpr uint64_t DeriveKey(uint64_t key, std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;  // 64-bit FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return DeriveKey(key, hash);
}

// The words of a key. Each key has its own start and its own odd step, so the sequences of the
// millions of rows of a model do not run into each other.
class RandomWords {
 public:
  explicit constexpr RandomWords(uint64_t key) : start_(MixBits(key)), step_(MixBits(~key) | 1u) {}
  constexpr uint64_t operator[](uint64_t position) const {
    return MixBits(start_ + position * step_);
  }

 private:
  uint64_t start_;
  uint64_t step_;
};

// Nearly a normal number, times kNormalUnit: the sum of the four 16-bit parts of a word less their
// mean. Mean 0 and variance kNormalUnit^2 are exact; what differs from a normal distribution are
// the tails, which end at 3.46 standard deviations (excess kurtosis -0.3). Rows and columns of
// different size give the weights of a matrix the long tails of real ones. A whole number of 19
// bits, so that scaling it is the only rounding before the one to bfloat16.
constexpr int32_t NormalSum(uint64_t word) {
  constexpr uint64_t kEven = 0x0000FFFF0000FFFFu;
  const uint64_t pairs = (word & kEven) + ((word >> 16) & kEven);
  return static_cast<int32_t>((pairs & 0xFFFFFFFFu) + (pairs >> 32)) - 131070;
}
inline constexpr double kNormalUnit = 37837.227237;  // sqrt(4 * (65536^2 - 1) / 12)

constexpr double NormalNumber(uint64_t word) { return NormalSum(word) / kNormalUnit; }
// In [0, 1).
constexpr double UniformNumber(uint64_t word) {
  return static_cast<double>(word >> 11) * 0x1.0p-53;
}

}  // namespace narrow
