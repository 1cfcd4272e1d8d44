#include "io/config_dtype.h"

namespace narrow {

std::optional<std::string> StatedDtype(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto member = config.find(key);
    if (member == config.end() || !member->is_string()) continue;
    std::string name = member->get<std::string>();
    if (name != "auto" && !name.starts_with("torch.")) return name;
  }
  return std::nullopt;
}

std::string DtypeName(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF16:
      return "float16";
    case Dtype::kF32:
      return "float32";
    default:
      return "bfloat16";
  }
}

}  // namespace narrow
