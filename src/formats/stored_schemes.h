// What the config block of a quantized checkpoint says of each module, where schemes are data.
// Source: compressed-tensors 0.19, Quark 0.13; matching as vLLM 0.32 does; docs/schemes.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/quantized_weight.h"
#include "io/json.h"
#include "schemes/tensor_scheme.h"
#include "text/regex.h"

namespace narrow {

class StoredSchemes {
 public:
  // Nothing for blocks that are none of these: quant_method compressed-tensors; fp8 with
  // weight_block_size; quark with a global scheme that is not static per tensor. Throws:
  // kCorruptInput for members of wrong types; kUnsupported for schemes that this build does not
  // know.
  static std::optional<StoredSchemes> Parse(const Json& quantization_config);

  // Null: the module stays as it is.
  const LinearScheme* Find(const std::string& module) const;
  // The config lists it as unquantized.
  bool Ignores(const std::string& module) const;

  const QuantizedWeightHints& hints() const { return hints_; }
  bool cache_scales() const { return cache_scales_; }              // K and V have static scales
  bool blocks_are_checked() const { return blocks_are_checked_; }  // by the loader, by fused part

 private:
  // A module name, "re:" and a regular expression, or a shell pattern.
  class Pattern {
   public:
    explicit Pattern(const std::string& text);
    bool Matches(const std::string& module) const;

   private:
    std::string text_;
    std::optional<Regex> regex_;
  };
  struct Group {
    LinearScheme scheme;
    bool all = false;  // every linear
    std::vector<Pattern> targets;
  };
  static StoredSchemes ParseCompressedTensors(const Json& config);
  static StoredSchemes ParseFp8Blocks(const Json& config, const Json& block_size);
  static StoredSchemes ParseQuark(const Json& config, const Json& global, const Json& weight);
  void AddIgnored(const Json& config, std::string_view key);

  std::vector<Group> groups_;
  std::vector<Pattern> ignored_;
  QuantizedWeightHints hints_;
  bool cache_scales_ = false;
  bool blocks_are_checked_ = false;
};

// One line: "FP8 in blocks of 128 x 128".
std::string DescribeScheme(const TensorScheme& scheme);

}  // namespace narrow
