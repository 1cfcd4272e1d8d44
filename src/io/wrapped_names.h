// Names of tensors as wrappers of PyTorch and peft spell them.
#pragma once

#include <optional>
#include <string>

namespace narrow {

// Why the tensor `stored` is `name` under a wrapper's name (base_model.model., module., _orig_mod.,
// model.language_model.) and how to save the model without the wrapper; nothing when it is not.
std::optional<std::string> ExplainName(const std::string& stored, const std::string& name);

// What a tensor is that no model has a place for, where its name shows it: "; it is part of an
// adapter ...", else "".
std::string UnknownTensorHint(const std::string& name);

}  // namespace narrow
