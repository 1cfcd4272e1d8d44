// What the evaluation of one checkpoint and the comparison of two have in common.
#pragma once

#include <filesystem>
#include <optional>

#include "io/staged_directory.h"
#include "jobs/quantize.h"
#include "text/token_stream.h"

namespace narrow {

// Where hidden states of an evaluation would spill to, for its plan: without --work_dir the
// directory for temporary files ($TMPDIR), or, where there is none, the current one, as nothing may
// have to spill.
std::filesystem::path SpillParent(const EvaluateRequest& request);

// A directory for hidden states, gone with the object.
class Spill {
 public:
  // Throws: kNotFound where no directory is asked for and there is none for temporary files; as
  // TemporaryDirectory.
  explicit Spill(const EvaluateRequest& request);
  const std::filesystem::path& path() const { return directory_->path(); }

 private:
  std::optional<TemporaryDirectory> directory_;
};

// Throws: kInvalidArgument where not all ranks evaluate the same text.
void CheckSameWindows(const TokenStream& text);

}  // namespace narrow
