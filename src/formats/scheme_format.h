// How each format keeps a linear quantized by a scheme: tensors, the rule its tool rounds by, and
// the config block. A format is a row of the table in scheme_format.cc; the job with calibration
// has its own narrower table (registry.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "io/safetensors.h"
#include "schemes/tensor_scheme.h"
#include "schemes/weight_rule.h"

namespace narrow {

// What stands for the weight of a quantized linear.
enum class LinearPart : uint8_t {
  kCodes,
  kScale,
  kZeroPoint,
  kGlobalScale,  // of the weight
  kShape,        // rows and columns, I64 [2]
  kInputScale,   // static, of the input
  kInputGlobalScale,
};

struct PartTensor {
  LinearPart part = LinearPart::kCodes;
  TensorSpec tensor;
};

// A linear as it was.
struct SourceLinear {
  std::string module;  // "model.layers.0.mlp.up_proj"
  int64_t rows = 0;
  int64_t columns = 0;
  Dtype type = Dtype::kBF16;
};

// Modules of one scheme.
struct SchemeGroup {
  LinearScheme scheme;
  // How the config names them: module names, or "re:" and a regular expression; empty: all linears
  // that are not ignored.
  std::vector<std::string> targets;
};

// What the config block says.
struct SchemeDescription {
  std::vector<SchemeGroup> groups;         // at least one
  std::vector<std::string> ignored;        // modules that stay as they are, by full name
  std::optional<TensorScheme> cache = {};  // of K and V, with scales in the checkpoint
};

struct SchemeFormat {
  std::string_view name;     // value of --format
  std::string_view summary;  // one line of help
  bool (*holds)(const LinearScheme& scheme);
  bool several_schemes;  // in one checkpoint
  bool caches;           // its config says of scales of K and V
  WeightRule (*rule)(const LinearScheme& scheme);
  // Tensors of the weight. REQUIRES: holds(scheme), and the scheme takes its size.
  std::vector<PartTensor> (*tensors)(const SourceLinear& linear, const LinearScheme& scheme);
  // "quantization_config" of config.json.
  Json (*config)(const SchemeDescription& description);
};

std::span<const SchemeFormat> SchemeFormats();

// The format that serves a scheme best: the first that holds it. REQUIRES: one does.
const SchemeFormat& DefaultFormat(const LinearScheme& scheme);

// Throws: kInvalidArgument for a name nobody knows; kUnsupported when the format does not hold the
// scheme, naming those that do.
const SchemeFormat& FindSchemeFormat(std::string_view name, const LinearScheme& scheme);

}  // namespace narrow
