// The type of a model's weights as its config.json states it.
#pragma once

#include <optional>
#include <string>

#include "io/json.h"
#include "tensor/dtype.h"

namespace narrow {

// "dtype", or, where that says nothing, the older "torch_dtype". Nothing where neither is a name of
// a type of PyTorch: absent, null, "auto", or spelled "torch.bfloat16"; then the weights decide.
std::optional<std::string> StatedDtype(const Json& config);

// "float16", "float32", else "bfloat16": the name of the type of a model's weights.
std::string DtypeName(Dtype dtype);

}  // namespace narrow
