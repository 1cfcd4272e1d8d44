// Member "normalizer" of a tokenizer.json.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "text/regex.h"

namespace narrow {

// Sequence, Prepend and Replace. Immutable after construction, thread-safe.
class Normalizer {
 public:
  // Reads the member of `tokenizer`, which may be null or absent. Throws: kUnsupported naming
  // another normalizer; kCorruptInput.
  Normalizer(const Json& tokenizer, std::string_view what);

  bool empty() const { return steps_.empty(); }
  // REQUIRES: `text` is valid UTF-8.
  std::string Normalize(std::string_view text) const;

 private:
  struct Step {
    std::vector<Regex> pattern;  // one; none: put `content` in front of a text that is not empty
    std::string content;
  };
  void Add(const Json& normalizer, std::string_view what, int depth);

  std::vector<Step> steps_;
};

// A "pattern" member: {"String": text} or {"Regex": pattern}. Throws: kCorruptInput, kUnsupported.
Regex ReadPattern(const Json& owner, std::string_view what);

}  // namespace narrow
