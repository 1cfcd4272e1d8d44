#include "text/normalizer.h"

#include "base/error.h"

namespace narrow {
namespace {

constexpr int kMaxNesting = 8;
constexpr std::size_t kMaxSteps = 64;
// A file can ask for replacements that multiply the text at every step; real ones at most triple
// it.
constexpr std::size_t kMaxGrowth = 64;
constexpr std::size_t kMaxAddedBytes = 65536;

void CheckGrowth(std::size_t bytes, std::size_t original_bytes) {
  if (bytes > kMaxGrowth * original_bytes + kMaxAddedBytes) {
    Fail(ErrorCode::kUnsupported,
         "normalizer makes more than {} bytes of a text of {} bytes; the tokenizer is not usable",
         kMaxGrowth * original_bytes + kMaxAddedBytes, original_bytes);
  }
}

}  // namespace

Regex ReadPattern(const Json& owner, std::string_view what) {
  const Json* pattern = OptionalObject(owner, "pattern", what);
  if (pattern != nullptr && pattern->size() == 1) {
    if (const auto text = OptionalString(*pattern, "String", what); text && !text->empty()) {
      return Regex::Literal(*text);
    }
    if (const auto text = OptionalString(*pattern, "Regex", what)) return Regex(*text);
  }
  Fail(ErrorCode::kCorruptInput,
       "{}: expected a pattern holding a String that is not empty, or a Regex", what);
}

Normalizer::Normalizer(const Json& tokenizer, std::string_view what) {
  if (const Json* normalizer = OptionalObject(tokenizer, "normalizer", what)) {
    Add(*normalizer, what, 0);
  }
}

void Normalizer::Add(const Json& normalizer, std::string_view what, int depth) {
  const std::string type = RequiredString(normalizer, "type", what);
  if (steps_.size() >= kMaxSteps) {
    Fail(ErrorCode::kUnsupported, "{}: more than {} normalizers are not supported", what,
         kMaxSteps);
  }
  if (type == "Sequence" && depth < kMaxNesting) {
    const Json* list = OptionalArray(normalizer, "normalizers", what);
    if (list == nullptr) {
      Fail(ErrorCode::kCorruptInput, "{}: normalizer Sequence has no normalizers", what);
    }
    for (const Json& item : *list) Add(item, what, depth + 1);
  } else if (type == "Prepend") {
    steps_.push_back({{}, RequiredString(normalizer, "prepend", what)});
  } else if (type == "Replace") {
    steps_.push_back(
        {{ReadPattern(normalizer, what)}, RequiredString(normalizer, "content", what)});
  } else {
    Fail(ErrorCode::kUnsupported,
         "{}: normalizer {} is not supported, only Sequence, Prepend and Replace", what,
         Quoted(type));
  }
}

std::string Normalizer::Normalize(std::string_view text) const {
  std::string current(text);
  for (const Step& step : steps_) {
    if (step.pattern.empty()) {
      if (!current.empty()) current.insert(0, step.content);
      CheckGrowth(current.size(), text.size());
      continue;
    }
    if (current.empty()) continue;
    std::string next;
    next.reserve(current.size() + current.size() / 4);
    MatchIterator matches(step.pattern.front(), current);
    std::size_t copied = 0;
    while (const auto match = matches.Next()) {
      next.append(current, copied, static_cast<std::size_t>(match->begin) - copied);
      next += step.content;
      CheckGrowth(next.size(), text.size());
      copied = static_cast<std::size_t>(match->end);
    }
    next.append(current, copied);
    current = std::move(next);
  }
  return current;
}

}  // namespace narrow
