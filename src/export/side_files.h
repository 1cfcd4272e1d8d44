// The files beside the weights: tokenizer, generation config, chat template, license and the like.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace narrow {

struct SideFile {
  std::string name;              // in both directories
  std::filesystem::path source;  // resolved: no symbolic link
  int64_t bytes = 0;
  std::optional<std::string> replacement;  // written instead of the source's bytes
};

struct SideFilePlan {
  std::vector<SideFile> files;        // ordered by name
  std::vector<std::string> warnings;  // one sentence per file that was left out unexpectedly
};

// Every top-level file of `model_directory` except weights, *.index.json, README*.md, config.json,
// a report of an earlier run, hidden files and directories. Symbolic links are followed when they
// lead to a regular file in the same directory or, from a Hugging Face cache snapshot, in its blobs
// folder; any other link could carry a private file into a published model, so it is left out with
// a warning. generation_config.json gets do_sample true when it has sampling fields, without which
// transformers refuses to save it.
// Throws: kIo when the directory cannot be read; kCorruptInput for a broken generation_config.json.
SideFilePlan PlanSideFiles(const std::filesystem::path& model_directory);

// Writes the files of the plan to `output_directory`, byte for byte. Throws: kIo, kCorruptInput
// when a file shrank in the meantime.
void CopySideFiles(const SideFilePlan& plan, const std::filesystem::path& output_directory);

}  // namespace narrow
