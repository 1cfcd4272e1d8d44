// What lies beside the weights: the tokenizer a server needs, an adapter, the report of the job
// that made the checkpoint.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "inspection/findings.h"

namespace narrow {

// Findings about a tokenizer that is missing or incomplete, links that lead nowhere, and an
// adapter.
void CheckSideFiles(const std::filesystem::path& directory, Findings& findings);

// What an adapter for the original model meets in this checkpoint: a sentence when the marker of
// narrow's output, or narrow-report.json, says that the heads are in a basis of their own.
std::optional<std::string> BasisNote(const std::filesystem::path& directory);

}  // namespace narrow
