// Why a checkpoint lacks a tensor: what its names look like, and the step that puts them right.
#pragma once

#include <optional>
#include <string>

#include "io/checkpoint_reader.h"

namespace narrow {

// ", but STORED: STEP" where the tensor STORED is `name` under a wrapper's name; nothing else.
std::optional<std::string> ExplainMissing(const CheckpointReader& checkpoint,
                                          const std::string& name);

// Throws: kCorruptInput, naming the tensor `name`, and, where a tensor of the checkpoint is that
// one under a wrapper's name (base_model.model., module., _orig_mod., model.language_model.), its
// name and how to save the model without the wrapper. REQUIRES: the checkpoint has no tensor
// `name`.
[[noreturn]] void FailMissingTensor(const CheckpointReader& checkpoint, const std::string& name);

}  // namespace narrow
