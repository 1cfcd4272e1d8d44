// The merge rules of byte-pair encoding and their application to one word.
#pragma once

#include <cstdint>
#include <vector>

#include "text/flat_map.h"

namespace narrow {

// Memory that merging reuses from word to word. Thread-compatible.
struct MergeScratch {
  struct Merge {
    uint32_t rank;
    int32_t merged;
  };
  std::vector<int32_t> symbols;  // in and out
  std::vector<Merge> merges;     // of symbol i and its right neighbour
  std::vector<int32_t> previous;
  std::vector<int32_t> next;
  std::vector<uint64_t> heap;
};

// Pairs of token ids with the order in which they are merged. Thread-safe once filled.
class MergeRules {
 public:
  explicit MergeRules(int64_t count = 0) : rules_(count) {}

  // A pair given again takes the later rank, as the reference's table does.
  // REQUIRES: ids are not negative.
  void Add(int32_t left, int32_t right, uint32_t rank, int32_t merged);

  // Merges `scratch.symbols` in place until no rule applies: the lowest rank first, the leftmost
  // among equals. Quadratic for short words, O(n log n) for long ones.
  // REQUIRES: fewer than 2^31 symbols. Source: Word::merge_all of `tokenizers`.
  void Apply(MergeScratch& scratch) const;

 private:
  static constexpr uint32_t kNoRank = ~uint32_t{0};
  MergeScratch::Merge Find(int32_t left, int32_t right) const;
  void ApplyShort(MergeScratch& scratch) const;
  void ApplyLong(MergeScratch& scratch) const;
  void UpdateLong(MergeScratch& scratch, int32_t position) const;

  FlatMap rules_;
};

}  // namespace narrow
