// The tensors a Llama checkpoint should have, by its configuration.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "inspection/findings.h"
#include "inspection/inventory.h"

namespace narrow {

struct ExpectedTensor {
  std::string name;
  Shape shape;
};

struct LlamaTensors {
  int64_t layers = 0;
  bool tied = false;  // the head to the embedding
  std::vector<ExpectedTensor> required;
};

// Nothing when the model is not a Llama, or its configuration is unusable: findings say so.
std::optional<LlamaTensors> ExpectedLlamaTensors(const Json& config, Findings& findings);

// The linear modules vLLM fuses, of one layer ("model.layers.0"): q/k/v and gate/up; and all seven.
std::vector<std::vector<std::string>> FusedGroups(const std::string& layer);
std::vector<std::string> LinearModules(const std::string& layer);
inline std::string LayerName(int64_t layer) { return "model.layers." + std::to_string(layer); }

// Missing tensors, wrong shapes, and names vLLM has no place for.
void CheckLlamaTensors(const LlamaTensors& expected, const Inventory& inventory,
                       Findings& findings);

}  // namespace narrow
