// Which modules get which scheme: rules by pattern, the first that matches counts.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/scheme_format.h"
#include "schemes/tensor_scheme.h"

namespace narrow {

// The first of the shell patterns that the name matches; null: none.
const std::string* FirstMatch(const std::vector<std::string>& patterns, const std::string& name);

struct RecipeRule {
  std::vector<std::string> modules;    // shell patterns of full names
  std::optional<LinearScheme> scheme;  // nothing: these stay as they are
  std::string name;                    // of the scheme, as it was written

  bool Matches(const std::string& module) const;
};

struct Recipe {
  std::vector<RecipeRule> rules;

  // Null where no rule matches: the module stays.
  const RecipeRule* Find(const std::string& module) const;
  // The schemes of the rules, each once.
  std::vector<LinearScheme> Schemes() const;
};

// Every module in one scheme.
Recipe RecipeOfScheme(std::string_view scheme);

// {"rules": [{"modules": ["*.mlp.*"], "scheme": "NVFP4A16"}, {"modules": "*", "scheme": null}]}.
// Throws: kInvalidArgument for other members, unknown schemes, and no rule with a scheme;
// kCorruptInput for what is no JSON object; kNotFound.
Recipe ParseRecipe(std::string_view text, const std::string& what);
Recipe ReadRecipe(const std::filesystem::path& path);

// The names of its schemes: "FP8_DYNAMIC, NVFP4".
std::string NamesOf(const Recipe& recipe);

// The format of that name, or, without one, the one that serves the first scheme best. Throws: as
// FindSchemeFormat; kUnsupported for several schemes in a format that holds one.
const SchemeFormat& FormatOf(const Recipe& recipe, std::string_view name);

}  // namespace narrow
