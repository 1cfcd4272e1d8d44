// Checks of config.json's quantization_config against the rules of vLLM and against the tensors.
#pragma once

#include <string>

#include "inspection/findings.h"
#include "inspection/inventory.h"
#include "inspection/llama_tensors.h"

namespace narrow {

// quant_method, or "" when the checkpoint says nothing about quantization.
std::string QuantMethod(const Json& config);

// `llama` is null when the tensors of the model are not known.
void CheckQuantization(const Inventory& inventory, const LlamaTensors* llama, Findings& findings);

}  // namespace narrow
