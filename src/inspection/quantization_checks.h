// Checks of config.json's quantization_config against the rules of vLLM and against the tensors.
#pragma once

#include <string>

#include "inspection/expected_tensors.h"
#include "inspection/findings.h"
#include "inspection/inventory.h"

namespace narrow {

// quant_method, or "" when the checkpoint says nothing about quantization.
std::string QuantMethod(const Json& config);

// `model` is null when its tensors are not known.
void CheckQuantization(const Inventory& inventory, const ExpectedModel* model, Findings& findings);

}  // namespace narrow
