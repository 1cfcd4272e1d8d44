#include "jobs/evaluation_parts.h"

#include <cstdlib>

#include "io/paths.h"
#include "jobs/shared_job.h"
#include "stream/run_state.h"

namespace narrow {
namespace {

// Where files go that no one asked for: the first of these variables that is set, else /tmp.
std::filesystem::path TemporaryParent() {
  for (const char* variable : {"TMPDIR", "TMP", "TEMP", "TEMPDIR"}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') return value;
  }
  return "/tmp";
}

}  // namespace

std::filesystem::path SpillParent(const EvaluateRequest& request) {
  if (request.work_directory) return *request.work_directory;
  std::error_code error;
  const std::filesystem::path parent = TemporaryParent();
  return std::filesystem::is_directory(parent, error) ? parent : std::filesystem::current_path();
}

Spill::Spill(const EvaluateRequest& request) {
  std::filesystem::path parent = request.work_directory.value_or(TemporaryParent());
  if (request.work_directory) parent = ResolvePath(parent);
  if (request.work_directory) MakeDirectories(parent);
  std::error_code error;
  if (!std::filesystem::is_directory(parent, error)) {
    Fail(ErrorCode::kNotFound,
         "hidden states do not fit in memory, and {}, the directory for temporary files "
         "($TMPDIR), is not there; name one with --work_dir",
         parent.string());
  }
  directory_.emplace(parent);
}

void CheckSameWindows(const TokenStream& text) {
  Fingerprint facts;
  AddHash(facts, "evaluation tokens", std::as_bytes(std::span(text.tokens)));
  AddHash(facts, "evaluation windows", std::as_bytes(std::span(text.sequences)));
  CheckSameJob(facts);
}

}  // namespace narrow
