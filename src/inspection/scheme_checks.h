// Checks of checkpoints whose schemes are data (compressed-tensors, fp8 in blocks, Quark's per
// channel and per group) against the loading rules of vLLM 0.32; docs/schemes.md.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "formats/stored_schemes.h"
#include "inspection/expected_tensors.h"
#include "inspection/findings.h"
#include "inspection/inventory.h"

namespace narrow {

// The schemes of the checkpoint, when its config block is of this kind and can be read.
struct FoundSchemes {
  std::optional<StoredSchemes> schemes;
  bool unreadable = false;  // it is of this kind, but damaged or unknown: findings say how
};
FoundSchemes FindStoredSchemes(const Json& config, Findings& findings);

// Every quantized module against the block, and the fused ones against each other. Returns the
// inventory with the tensors of each quantized module replaced by the weight that they stand for,
// so that names and shapes can be checked as those of an unquantized model.
Inventory CheckSchemes(const std::filesystem::path& directory, const Inventory& inventory,
                       const StoredSchemes& schemes, Findings& findings);

}  // namespace narrow
