#include "text/parquet/levels.h"

#include <algorithm>

#include "base/error.h"

namespace narrow {
namespace {

[[noreturn]] void FailShort(std::string_view what) {
  Fail(ErrorCode::kCorruptInput, "{}: the numbers of a page end early; it is damaged", what);
}

uint64_t Varint(std::span<const std::byte>& bytes, std::string_view what) {
  uint64_t value = 0;
  for (int shift = 0; shift < 63; shift += 7) {
    if (bytes.empty()) FailShort(what);
    const auto byte = static_cast<uint8_t>(bytes.front());
    bytes = bytes.subspan(1);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  FailShort(what);
}

uint32_t LittleEndian(std::span<const std::byte> bytes) {
  uint32_t value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    value |= static_cast<uint32_t>(bytes[i]) << (8 * i);
  }
  return value;
}

}  // namespace

std::vector<uint32_t> DecodeHybrid(std::span<const std::byte> bytes, int width, int64_t count,
                                   std::string_view what) {
  if (width < 0 || width > 32) {
    Fail(ErrorCode::kCorruptInput, "{}: numbers of {} bits are in no page", what, width);
  }
  std::vector<uint32_t> numbers;
  const auto total = static_cast<std::size_t>(count);
  const auto run_bytes = static_cast<std::size_t>((width + 7) / 8);
  const uint64_t mask = (uint64_t{1} << width) - 1;
  while (numbers.size() < total) {
    const uint64_t head = Varint(bytes, what);
    const uint64_t wanted = total - numbers.size();
    if (head % 2 == 0) {  // a run
      if (bytes.size() < run_bytes || head == 0) FailShort(what);
      const uint32_t value = LittleEndian(bytes.first(run_bytes));
      bytes = bytes.subspan(run_bytes);
      numbers.insert(numbers.end(), static_cast<std::size_t>(std::min(head / 2, wanted)), value);
      continue;
    }
    // Groups of eight; the last group may be cut where no number of it is needed.
    const uint64_t held = std::min(wanted, std::min(head / 2, uint64_t{1} << 40) * 8);
    const uint64_t needed = (held * static_cast<uint64_t>(width) + 7) / 8;
    if (held == 0 || needed > bytes.size()) FailShort(what);
    uint64_t buffer = 0;
    int filled = 0;
    std::size_t next = 0;
    for (uint64_t i = 0; i < held; ++i) {
      for (; filled < width; filled += 8) {
        buffer |= static_cast<uint64_t>(bytes[next++]) << filled;
      }
      numbers.push_back(static_cast<uint32_t>(buffer & mask));
      buffer >>= width;
      filled -= width;
    }
    const uint64_t stored = std::min(head / 2, uint64_t{1} << 40) * static_cast<uint64_t>(width);
    bytes = bytes.subspan(static_cast<std::size_t>(std::min<uint64_t>(stored, bytes.size())));
  }
  return numbers;
}

}  // namespace narrow
