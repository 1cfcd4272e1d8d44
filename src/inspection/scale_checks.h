// Checks that need no model: every scale on its own, and that each FP8 weight has its scales.
#pragma once

#include <optional>
#include <string>

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

// The same of the queries, whose scale counts where attention is computed in FP8: a warning where
// some layers have none, and a note where none has one beside cache scales.
std::optional<std::string> CheckQueryScales(const Inventory& inventory, const ExpectedModel& model,
                                            Findings& findings);

// A note where there are scales of a cache of latents, which vLLM 0.32 loads under no name.
std::optional<std::string> FindLatentScales(const Inventory& inventory, const ExpectedModel& model);

}  // namespace narrow
