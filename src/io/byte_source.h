// What the bytes of a weight file are read from. A file of this machine is one (InputFile); what
// lies elsewhere is one more class.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace narrow {

// A fixed number of bytes that can be read at any offset. Thread-safe: reads carry their offset and
// may overlap. Whoever opens a source owns it; what was made from it refers to it.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // Names it in messages; the last part is the name that an index knows it by.
  virtual const std::filesystem::path& path() const = 0;
  virtual int64_t size() const = 0;  // bytes, when opened
  // When the bytes were last written, when opened: nanoseconds since the epoch. With path and size
  // it tells one state of the source from another.
  virtual int64_t modified_ns() const = 0;

  // Fills `bytes` from `offset`. Throws, naming the source: kCorruptInput when it ends early, kIo
  // when the read fails.
  virtual void ReadAt(int64_t offset, std::span<std::byte> bytes) const = 0;
  // Throws: kCorruptInput when the bytes are not those that were there when it was opened; kIo when
  // that cannot be told.
  virtual void CheckUnchanged() const = 0;

 protected:
  ByteSource() = default;
  ByteSource(ByteSource&&) = default;
  ByteSource& operator=(ByteSource&&) = default;
};

}  // namespace narrow
