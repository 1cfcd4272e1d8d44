#include "jobs/recipe.h"

#include <fnmatch.h>

#include <algorithm>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "schemes/scheme_presets.h"

namespace narrow {
namespace {

constexpr int64_t kMaxRecipeBytes = int64_t{16} << 20;

void CheckMembers(const Json& object, std::initializer_list<std::string_view> known,
                  const std::string& what) {
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::find(known, key) != known.end()) continue;
    Fail(ErrorCode::kInvalidArgument, "{}: {} is no member of it; there are {}", what, Quoted(key),
         fmt::join(known, ", "));
  }
}

std::vector<std::string> ReadPatterns(const Json& rule, const std::string& what) {
  const auto modules = rule.find("modules");
  std::vector<std::string> patterns;
  if (modules != rule.end() && modules->is_string()) {
    patterns.push_back(modules->get<std::string>());
  } else if (modules != rule.end() && modules->is_array()) {
    for (const Json& pattern : *modules) {
      if (!pattern.is_string()) break;
      patterns.push_back(pattern.get<std::string>());
    }
    if (patterns.size() != modules->size()) patterns.clear();
  }
  if (patterns.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: \"modules\" should be a pattern of module names, or a list of them", what);
  }
  return patterns;
}

RecipeRule ReadRule(const Json& rule, const std::string& what) {
  if (!rule.is_object()) {
    Fail(ErrorCode::kInvalidArgument, "{} should be an object, found {}", what, rule.type_name());
  }
  CheckMembers(rule, {"modules", "scheme"}, what);
  RecipeRule result;
  result.modules = ReadPatterns(rule, what);
  const auto scheme = rule.find("scheme");
  if (scheme == rule.end() || !(scheme->is_null() || scheme->is_string())) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: \"scheme\" should be the name of a scheme, or null for modules that stay", what);
  }
  if (scheme->is_string()) {
    const SchemePreset& preset = GetSchemePreset(scheme->get<std::string>());
    result.scheme = preset.scheme;
    result.name = preset.name;
  }
  return result;
}

}  // namespace

const std::string* FirstMatch(const std::vector<std::string>& patterns, const std::string& name) {
  const auto found = std::ranges::find_if(patterns, [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
  return found == patterns.end() ? nullptr : &*found;
}

bool RecipeRule::Matches(const std::string& module) const {
  return FirstMatch(modules, module) != nullptr;
}

const RecipeRule* Recipe::Find(const std::string& module) const {
  const auto rule =
      std::ranges::find_if(rules, [&](const RecipeRule& each) { return each.Matches(module); });
  return rule == rules.end() ? nullptr : &*rule;
}

std::vector<LinearScheme> Recipe::Schemes() const {
  std::vector<LinearScheme> schemes;
  for (const RecipeRule& rule : rules) {
    if (rule.scheme && std::ranges::find(schemes, *rule.scheme) == schemes.end()) {
      schemes.push_back(*rule.scheme);
    }
  }
  return schemes;
}

Recipe RecipeOfScheme(std::string_view scheme) {
  const SchemePreset& preset = GetSchemePreset(scheme);
  return {{{{"*"}, preset.scheme, std::string(preset.name)}}};
}

Recipe ParseRecipe(std::string_view text, const std::string& what) {
  const Json json = ParseJson(text, what, {.non_finite = NonFinite::kRefused});
  if (!json.is_object()) {
    Fail(ErrorCode::kCorruptInput, "{}: expected an object, found {}", what, json.type_name());
  }
  CheckMembers(json, {"rules"}, what);
  const auto rules = json.find("rules");
  if (rules == json.end() || !rules->is_array() || rules->empty()) {
    Fail(ErrorCode::kInvalidArgument, "{}: \"rules\" should be a list of rules", what);
  }
  Recipe recipe;
  for (const Json& rule : *rules) {
    recipe.rules.push_back(
        ReadRule(rule, fmt::format("{}: rule {}", what, recipe.rules.size() + 1)));
  }
  if (recipe.Schemes().empty()) {
    Fail(ErrorCode::kInvalidArgument, "{}: no rule has a scheme, so nothing would be quantized",
         what);
  }
  return recipe;
}

Recipe ReadRecipe(const std::filesystem::path& path) {
  return ParseRecipe(ReadWholeFile(path, kMaxRecipeBytes), path.string());
}

std::string NamesOf(const Recipe& recipe) {
  std::string names;
  for (const LinearScheme& scheme : recipe.Schemes()) {
    const SchemePreset* preset = PresetOf(scheme);
    if (preset == nullptr) continue;
    names += names.empty() ? "" : ", ";
    names += preset->name;
  }
  return names;
}

const SchemeFormat& FormatOf(const Recipe& recipe, std::string_view name) {
  const std::vector<LinearScheme> schemes = recipe.Schemes();
  const SchemeFormat& format =
      name.empty() ? DefaultFormat(schemes.front()) : FindSchemeFormat(name, schemes.front());
  if (schemes.size() > 1 && !format.several_schemes) {
    Fail(ErrorCode::kUnsupported,
         "--format {} holds one scheme a checkpoint; use compressed-tensors for a mixture",
         format.name);
  }
  return format;
}

}  // namespace narrow
