// What the source directory says about the base model: its name and its license, for the card of
// what is made from it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace narrow {

struct SourceFacts {
  std::string name;  // "org/name" from a Hugging Face cache, else the folder
  // What the base model is called on the Hugging Face hub, as its place in a cache says; nothing
  // for any other folder.
  std::optional<std::string> hub_name;
  // Without that, what the model says it was made of, as hub names: `base_model` of its card, else
  // `_name_or_path` of its config.
  std::vector<std::string> ancestors{};
  std::optional<std::string> license;  // identifier as on Hugging Face: "apache-2.0", "llama3.1"
  // Of a license that the hub has no identifier for ("other").
  std::optional<std::string> license_name{};
  std::optional<std::string> license_link{};
  std::optional<std::string> license_file{};  // name of the license file in the directory
};

// The license comes from the front matter of README.md, else from the title of the license file.
// All files are read as hostile text: at most 1 MiB, and only an identifier made of letters,
// digits, '.', '-', '+' and '_' counts. Never throws for what the files contain.
SourceFacts ReadSourceFacts(const std::filesystem::path& model_directory);

}  // namespace narrow
