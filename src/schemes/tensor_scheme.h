// A quantization scheme as data: which codes, which part of a tensor shares a scale, how scales are
// kept and when they are made. Formats give it names (formats/), kernels/group_codes.h the codes.
#pragma once

#include <cstdint>
#include <optional>

namespace narrow {

enum class Code : uint8_t {
  kE4M3,  // 8-bit float, largest number 448 (OCP OFP8)
  kE2M1,  // 4-bit float, largest number 6 (OCP Microscaling)
  kInt8,  // -128 .. 127
  kInt4,  // -8 .. 7
};

// The rows and columns of a weight that share a scale; 0: all of them. Of an input: the tokens and
// channels. {0, 0} is a tensor, {1, 0} a row (an output channel, a token), {1, 32} a group.
struct BlockShape {
  int64_t rows = 0;
  int64_t columns = 0;
  friend bool operator==(const BlockShape&, const BlockShape&) = default;
};

enum class ScaleFormat : uint8_t {
  kFloat,           // in the weight's type or F32, as the format has it
  kPowerOfTwo,      // E8M0: 2^(byte - 127)
  kE4M3WithGlobal,  // E4M3 per block and one F32 for the tensor
};

// Of a weight always static. An input's global scale is static, whatever its blocks' scales are.
enum class Timing : uint8_t {
  kStatic,   // from calibration, in the checkpoint
  kDynamic,  // from the numbers themselves, while serving
};

struct TensorScheme {
  Code code = Code::kE4M3;
  BlockShape block;
  ScaleFormat scale = ScaleFormat::kFloat;
  Timing timing = Timing::kStatic;
  bool symmetric = true;
  friend bool operator==(const TensorScheme&, const TensorScheme&) = default;
};

struct LinearScheme {
  TensorScheme weight;
  std::optional<TensorScheme> input;  // nothing: inputs stay as they are
  friend bool operator==(const LinearScheme&, const LinearScheme&) = default;
};

// Bits of a code.
constexpr int64_t CodeBits(Code code) { return code == Code::kE4M3 || code == Code::kInt8 ? 8 : 4; }

// Whether rounding that makes up for its errors beats rounding to nearest: not with codes of 8 bits
// in groups with powers of two for scales (docs/accuracy.md).
constexpr bool CompensationPays(const LinearScheme& scheme) {
  return CodeBits(scheme.weight.code) != 8 || scheme.weight.scale != ScaleFormat::kPowerOfTwo;
}

// Whether something of the checkpoint follows from what calibration sees.
constexpr bool NeedsCalibration(const LinearScheme& scheme) {
  return scheme.input && (scheme.input->timing == Timing::kStatic ||
                          scheme.input->scale == ScaleFormat::kE4M3WithGlobal);
}

}  // namespace narrow
