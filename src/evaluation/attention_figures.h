// Serving engines run attention over an FP8 cache in one of two ways; each is a figure of its own.
#pragma once

namespace narrow {

// Which of them a quantized network with an FP8 cache is evaluated in.
enum class AttentionFigures {
  kFloat8,       // queries and probabilities in E4M3, too: most GPUs
  kDequantized,  // the cache is dequantized first: CPUs, FlashAttention 4 on Hopper, RDNA 3
  kBoth,         // of which the first is the one that counts
};

// As --attention takes it.
inline const char* AttentionName(AttentionFigures figures) {
  if (figures == AttentionFigures::kFloat8) return "fp8";
  return figures == AttentionFigures::kDequantized ? "bf16" : "both";
}

}  // namespace narrow
