// What the source directory says about the base model: its name and its license.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace narrow {

struct SourceFacts {
  std::string name;                    // "org/name" from a Hugging Face cache, else the folder
  std::optional<std::string> license;  // identifier as on Hugging Face: "apache-2.0", "llama3.1"
  std::optional<std::string> license_file;  // name of the license file in the directory
};

// The license comes from the front matter of README.md, else from the title of the license file.
// Both are read as hostile text: at most 64 KiB, and only an identifier made of letters, digits,
// '.', '-', '+' and '_' counts. Never throws for what the files contain.
SourceFacts ReadSourceFacts(const std::filesystem::path& model_directory);

}  // namespace narrow
