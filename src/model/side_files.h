// The files beside the weights: tokenizer, generation config, chat template, license and the like.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace narrow {

struct SideFile {
  std::string name;              // in both directories; "additional_chat_templates/x.jinja", too
  std::filesystem::path source;  // resolved: no symbolic link
  int64_t bytes = 0;
  std::optional<std::string> replacement;  // written instead of the source's bytes
};

struct SideFilePlan {
  std::vector<SideFile> files;        // ordered by name
  std::vector<std::string> warnings;  // one sentence per file that was left out unexpectedly
};

// Every top-level file of `model_directory`, and the templates of additional_chat_templates/,
// except weights, *.index.json, README*.md, config.json, adapter_config.json (its weights do not
// travel), a report of an earlier run, hidden files and other directories. What is copied is
// published, so symbolic links are followed to regular files only, and by these rules:
// - a link to a file in the same directory, or whose way leads over a blob of a Hugging Face cache
// (a
//   name of 40 or 64 hexadecimal digits, wherever it lies, or the blobs folder beside snapshots/),
//   is followed;
// - so is one that bears a name of the files a server reads (tokenizer.json, chat_template.jinja
// and
//   their kin) or of a license, wherever it leads: a warning says so, and JSON must be JSON;
// - any other link could carry a private file into a published model: it is left out with a
// warning. A link or special file under a name that a server reads which cannot be followed is an
// error, as is a link in place of the directory additional_chat_templates. generation_config.json
// gets do_sample true when it has sampling fields, without which transformers refuses to save it.
// Throws: kNotFound and kIo naming the link and where it leads; kIo when the directory cannot be
// read; kCorruptInput for a broken generation_config.json, or JSON behind a link that is none.
SideFilePlan PlanSideFiles(const std::filesystem::path& model_directory);

// Whether servers or transformers read a file of this name beside config.json and the weights, or
// it is a license.
bool IsKnownSideFile(std::string_view name);

// Writes the files of the plan to `output_directory`, byte for byte. Throws: kIo, kCorruptInput
// when a file shrank in the meantime.
void CopySideFiles(const SideFilePlan& plan, const std::filesystem::path& output_directory);

}  // namespace narrow
