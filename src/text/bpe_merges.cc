#include "text/bpe_merges.h"

#include <algorithm>
#include <functional>

namespace narrow {
namespace {

constexpr std::size_t kShortWord = 48;  // symbols; above it the heap is faster

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

void MergeRules::Add(int32_t left, int32_t right, uint32_t rank, int32_t merged) {
  rules_.Put(PairKey(left, right),
             static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(merged));
}

MergeScratch::Merge MergeRules::Find(int32_t left, int32_t right) const {
  const uint64_t* rule = rules_.Find(PairKey(left, right));
  if (rule == nullptr) return {kNoRank, 0};
  return {static_cast<uint32_t>(*rule >> 32), static_cast<int32_t>(*rule & 0xFFFFFFFFu)};
}

void MergeRules::Apply(MergeScratch& scratch) const {
  if (scratch.symbols.size() < 2) return;
  if (scratch.symbols.size() <= kShortWord) {
    ApplyShort(scratch);
  } else {
    ApplyLong(scratch);
  }
}

void MergeRules::ApplyShort(MergeScratch& scratch) const {
  std::vector<int32_t>& symbols = scratch.symbols;
  std::vector<MergeScratch::Merge>& merges = scratch.merges;
  merges.clear();
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
    merges.push_back(Find(symbols[i], symbols[i + 1]));
  }
  while (!merges.empty()) {
    const auto best = std::min_element(
        merges.begin(), merges.end(),
        [](const MergeScratch::Merge& a, const MergeScratch::Merge& b) { return a.rank < b.rank; });
    if (best->rank == kNoRank) return;
    const auto i = static_cast<std::size_t>(best - merges.begin());
    symbols[i] = best->merged;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    merges.erase(best);
    if (i > 0) merges[i - 1] = Find(symbols[i - 1], symbols[i]);
    if (i < merges.size()) merges[i] = Find(symbols[i], symbols[i + 1]);
  }
}

// Recomputes the merge of the symbol at `position` with its right neighbour and queues it.
void MergeRules::UpdateLong(MergeScratch& scratch, int32_t position) const {
  const auto at = static_cast<std::size_t>(position);
  const int32_t next = scratch.next[at];
  MergeScratch::Merge& merge = scratch.merges[at];
  merge = next < 0 ? MergeScratch::Merge{kNoRank, 0}
                   : Find(scratch.symbols[at], scratch.symbols[static_cast<std::size_t>(next)]);
  if (merge.rank == kNoRank) return;
  scratch.heap.push_back(static_cast<uint64_t>(merge.rank) << 32 | static_cast<uint32_t>(position));
}

void MergeRules::ApplyLong(MergeScratch& scratch) const {
  std::vector<int32_t>& symbols = scratch.symbols;
  std::vector<uint64_t>& heap = scratch.heap;
  const std::size_t count = symbols.size();
  scratch.merges.resize(count);
  scratch.previous.resize(count);
  scratch.next.resize(count);
  heap.clear();
  for (std::size_t i = 0; i < count; ++i) {
    scratch.previous[i] = static_cast<int32_t>(i) - 1;
    scratch.next[i] = i + 1 < count ? static_cast<int32_t>(i) + 1 : -1;
  }
  for (std::size_t i = 0; i < count; ++i) UpdateLong(scratch, static_cast<int32_t>(i));
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto at = static_cast<std::size_t>(top & 0xFFFFFFFFu);
    // An entry is stale when the pair at its position has changed since.
    const MergeScratch::Merge merge = scratch.merges[at];
    if (merge.rank != top >> 32) continue;
    const auto right = static_cast<std::size_t>(scratch.next[at]);
    symbols[at] = merge.merged;
    scratch.next[at] = scratch.next[right];
    scratch.merges[right].rank = kNoRank;
    if (scratch.next[at] >= 0) {
      scratch.previous[static_cast<std::size_t>(scratch.next[at])] = static_cast<int32_t>(at);
    }
    for (const int32_t position : {scratch.previous[at], static_cast<int32_t>(at)}) {
      if (position < 0) continue;
      const std::size_t queued = heap.size();
      UpdateLong(scratch, position);
      if (heap.size() > queued) std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
  }
  std::size_t kept = 0;
  for (int32_t i = 0; i >= 0; i = scratch.next[static_cast<std::size_t>(i)]) {
    symbols[kept++] = symbols[static_cast<std::size_t>(i)];
  }
  symbols.resize(kept);
}

}  // namespace narrow
