// YAML as model cards have it, read into the types of JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "io/json.h"

namespace narrow {

inline constexpr int64_t kMaxYamlBytes = int64_t{1} << 20;

// Parses one document. Mappings become objects (of equal keys the last one counts), sequences
// arrays, plain scalars null, booleans or numbers where JSON writes them so, all others strings.
// `what` names the source in messages. Throws: kCorruptInput (syntax with line, more than 64
// levels, 1000 keys of a mapping or 1 MiB, bad UTF-8, anchors and aliases, keys that are no
// scalars). Source: YAML 1.1, libyaml 0.2.5.
Json ParseYaml(std::string_view text, std::string_view what);

// What stands between the two lines "---" at the beginning of a card, as huggingface_hub 2.4 finds
// it (repocard.py, REGEX_YAML_BLOCK); nothing when there are none.
std::optional<std::string_view> FrontMatterOf(std::string_view card);

}  // namespace narrow
