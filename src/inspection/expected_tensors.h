// The tensors a checkpoint should have, by its configuration and the model family it names.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "inspection/findings.h"
#include "inspection/inventory.h"
#include "model/spec.h"

namespace narrow {

// What vLLM loads as one module: of a decoder layer, the linears that read the same input.
struct FusedModule {
  std::string name;  // vLLM's: "model.layers.0.self_attn.qkv_proj"
  std::vector<std::string> parts;
};

struct ExpectedLayer {
  std::string attention_module;
  bool caches = true;                // K and V, so that there may be scales of them
  bool latent = false;               // what it caches are latents
  std::vector<FusedModule> fused;    // of more than one part
  std::vector<std::string> linears;  // all modules, those that are not fused first
  // Routers and the like, and that of all experts: lists of what is unquantized may name them.
  std::vector<std::string> plain;
};

struct ExpectedTensor {
  std::string name;
  Shape shape;
};

struct ExpectedModel {
  ModelSpec outside;  // of the layers
  std::string head;   // how the head is called as a matrix of its own
  bool tied = false;  // the head to the embedding
  std::vector<ExpectedLayer> layers;
  std::vector<ExpectedTensor> required;
  // Of a multimodal model: what names of the decoder's tensors begin with. Others are a vision
  // tower's or a projector's, of which this build knows nothing.
  std::optional<std::string> body;
  // Whether a name is of a layer that predicts further tokens; empty: there are none.
  std::function<bool(const std::string&)> predictor;
};

// Nothing when this build does not know the model's family, or the configuration is unusable:
// findings say so.
std::optional<ExpectedModel> FindExpectedModel(const Inventory& inventory, Findings& findings);

// Missing tensors, wrong shapes, and names vLLM has no place for.
void CheckTensors(const ExpectedModel& expected, const Inventory& inventory, Findings& findings);

}  // namespace narrow
