#include "model/missing_tensor.h"

#include "base/error.h"
#include "io/json.h"
#include "io/wrapped_names.h"

namespace narrow {

std::optional<std::string> ExplainMissing(const CheckpointReader& checkpoint,
                                          const std::string& name) {
  for (const CheckpointReader::TensorLocation& tensor : checkpoint.tensors()) {
    const std::string& stored = tensor.entry.name;
    if (const auto why = ExplainName(stored, name)) {
      return fmt::format(", but {}: {}", Quoted(stored), *why);
    }
  }
  return std::nullopt;
}

void FailMissingTensor(const CheckpointReader& checkpoint, const std::string& name) {
  if (checkpoint.absent().contains(name) || checkpoint.tensors().empty()) checkpoint.Get(name);
  if (const auto why = ExplainMissing(checkpoint, name)) {
    Fail(ErrorCode::kCorruptInput, "{}: the checkpoint has no tensor {}{}",
         checkpoint.directory().string(), name, *why);
  }
  const auto& first = checkpoint.tensors().front();
  Fail(ErrorCode::kCorruptInput, "{}: the checkpoint has no tensor {}{}",
       checkpoint.directory().string(), name,
       first.entry.name == "layers.0.attention.wk.weight"
           ? "; its names are those of Meta's own layout: take the model's Hugging Face version"
           : fmt::format(" (its {} tensors have names such as {})", checkpoint.tensors().size(),
                         Quoted(first.entry.name)));
}

}  // namespace narrow
