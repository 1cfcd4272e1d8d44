// Rotary position embedding: which frequencies.
#pragma once

#include <cstdint>
#include <vector>

namespace narrow {

// Source: transformers 5, modeling_rope_utils.py.
struct RopeConfig {
  enum class Kind { kDefault, kLinear, kLlama3, kYarn, kLongRope } kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                     // linear, llama3, yarn
  double low_frequency_factor = 1.0;       // llama3
  double high_frequency_factor = 4.0;      // llama3
  double original_positions = 8192;        // llama3, yarn, longrope
  double beta_fast = 32.0;                 // yarn
  double beta_slow = 1.0;                  // yarn
  bool truncated = true;                   // yarn: corrections begin and end at whole dimensions
  std::vector<double> factors = {};        // longrope: of each frequency, as served
  std::vector<double> long_factors = {};   // longrope: of texts beyond them
  std::vector<double> short_factors = {};  // longrope: of texts within the original positions
  int64_t longest = 0;            // texts beyond would be rotated in another way; 0: none would
  double attention_factor = 1.0;  // of sines and cosines

  bool operator==(const RopeConfig&) const = default;
};

}  // namespace narrow
