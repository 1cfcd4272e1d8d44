// Checks that need no model: every scale on its own, and that each FP8 weight has its scales.
#pragma once

#include "inspection/expected_tensors.h"
#include "inspection/findings.h"
#include "inspection/inventory.h"

namespace narrow {

enum class ActivationScales { kRequired, kNotRequired };

void CheckScales(const Inventory& inventory, ActivationScales activation, Findings& findings);

// Which layers of the model have scales for K and V. Having one of the two only, or in some layers
// only, is an error; so is having none where the configuration promises them.
enum class KvScales { kPromised, kOptional };
void CheckKvScales(const Inventory& inventory, const ExpectedModel& model, KvScales promise,
                   Findings& findings);

}  // namespace narrow
