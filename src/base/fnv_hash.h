// FNV-1a, 64 bits: tells contents apart that differ by accident, not by design.
// Source: the hash's own page by Fowler, Noll and Vo (draft-eastlake-fnv).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace narrow {

inline constexpr uint64_t kFnvStart = 14695981039346656037u;

// Goes on from `hash`, so that contents can be given in pieces.
inline uint64_t FnvHash(std::span<const std::byte> bytes, uint64_t hash = kFnvStart) {
  for (const std::byte byte : bytes) {
    hash = (hash ^ std::to_integer<uint64_t>(byte)) * 1099511628211u;
  }
  return hash;
}

}  // namespace narrow
