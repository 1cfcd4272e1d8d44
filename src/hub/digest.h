// The digests that the hub names files by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace narrow {

// Takes bytes in order and tells their digest. Thread-compatible, movable.
class ContentDigest {
 public:
  enum class Kind {
    kSha256,   // of the bytes: the name of a large file (git-lfs)
    kGitBlob,  // SHA-1 of "blob SIZE\0" and the bytes: the name of any other file
  };
  ContentDigest(Kind kind, int64_t size);
  ~ContentDigest();
  ContentDigest(ContentDigest&&) noexcept;
  ContentDigest& operator=(ContentDigest&&) noexcept;

  void Add(std::span<const std::byte> bytes);
  // In hexadecimal, lower case. Call once.
  std::string Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace narrow
