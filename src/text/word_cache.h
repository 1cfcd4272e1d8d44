// A bounded memory of words that were encoded before.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace narrow {

// A direct-mapped table: one cache line an entry, 2 MiB in all. Long words and words of many tokens
// are not kept. Thread-compatible.
class WordCache {
 public:
  // The ids of `word`; empty when it is not here.
  std::span<const int32_t> Find(std::string_view word) const {
    if (word.size() > kMaxBytes) return {};
    const Entry& entry = entries_[Index(word)];
    if (entry.bytes != word.size() || std::memcmp(entry.word, word.data(), word.size()) != 0) {
      return {};
    }
    return {entry.ids, entry.count};
  }

  void Put(std::string_view word, std::span<const int32_t> ids) {
    if (word.empty() || word.size() > kMaxBytes || ids.empty() || ids.size() > kMaxIds) return;
    Entry& entry = entries_[Index(word)];
    entry.bytes = static_cast<uint8_t>(word.size());
    entry.count = static_cast<uint8_t>(ids.size());
    std::copy(word.begin(), word.end(), entry.word);
    std::copy(ids.begin(), ids.end(), entry.ids);
  }

 private:
  static constexpr std::size_t kMaxBytes = 30;
  static constexpr std::size_t kMaxIds = 8;
  static constexpr int kIndexBits = 15;

  struct alignas(64) Entry {
    uint8_t bytes = 0;
    uint8_t count = 0;
    char word[kMaxBytes] = {};
    int32_t ids[kMaxIds] = {};
  };

  // REQUIRES: at most 32 bytes.
  static std::size_t Index(std::string_view word) {
    uint64_t parts[4] = {word.size(), 0, 0, 0};
    uint64_t hash = 0;
    std::memcpy(reinterpret_cast<char*>(parts) + 1, word.data(), word.size());
    for (const uint64_t part : parts)
      hash = (hash ^ part) * 0x9E3779B97F4A7C15u, hash ^= hash >> 32;
    return static_cast<std::size_t>(hash >> (64 - kIndexBits));
  }

  std::vector<Entry> entries_ = std::vector<Entry>(std::size_t{1} << kIndexBits);
};

}  // namespace narrow
