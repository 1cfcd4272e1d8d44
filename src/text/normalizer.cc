#include "text/normalizer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

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

std::string Trimmed(std::string_view text, bool left, bool right) {
  std::size_t begin = 0;
  while (left && begin < text.size() &&
         IsWhiteSpace(DecodeUtf8(text, static_cast<int64_t>(begin)))) {
    begin += static_cast<std::size_t>(Utf8Length(text[begin]));
  }
  std::size_t end = text.size();
  while (right && end > begin) {
    const int64_t last = PreviousUtf8(text, static_cast<int64_t>(end));
    if (!IsWhiteSpace(DecodeUtf8(text, last))) break;
    end = static_cast<std::size_t>(last);
  }
  return std::string(text.substr(begin, end - begin));
}

bool RequiredBool(const Json& object, const char* key, std::string_view what) {
  const std::optional<bool> value = OptionalBool(object, key, what);
  if (!value) Fail(ErrorCode::kCorruptInput, "{}: normalizer Strip has no {}", what, key);
  return *value;
}

}  // namespace

Regex ReadPattern(const Json& owner, std::string_view what) {
  const Json* pattern = OptionalObject(owner, "pattern", what);
  if (pattern != nullptr && pattern->size() == 1) {
    if (const auto text = OptionalString(*pattern, "String", what)) return Regex::Literal(*text);
    if (const auto text = OptionalString(*pattern, "Regex", what)) return Regex(*text);
  }
  Fail(ErrorCode::kCorruptInput, "{}: expected a pattern holding a String or a Regex", what);
}

Normalizer::Normalizer(const Json& tokenizer, std::string_view what) {
  if (const Json* normalizer = OptionalObject(tokenizer, "normalizer", what)) {
    Add(*normalizer, what, 0);
  }
}

void Normalizer::Add(const Json& normalizer, std::string_view what, int depth) {
  static constexpr std::pair<std::string_view, NormalForm> kForms[] = {{"NFC", NormalForm::kNfc},
                                                                       {"NFD", NormalForm::kNfd},
                                                                       {"NFKC", NormalForm::kNfkc},
                                                                       {"NFKD", NormalForm::kNfkd}};
  static constexpr std::pair<std::string_view, Whole> kWholes[] = {
      {"Lowercase", Whole::kLowercase},
      {"StripAccents", Whole::kStripAccents},
      {"ByteLevel", Whole::kByteLevel}};
  const std::string type = RequiredString(normalizer, "type", what);
  const auto named = [&](const auto& row) { return row.first == type; };
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
  } else if (const auto* form = std::find_if(std::begin(kForms), std::end(kForms), named);
             form != std::end(kForms)) {
    steps_.emplace_back(form->second);
  } else if (const auto* whole = std::find_if(std::begin(kWholes), std::end(kWholes), named);
             whole != std::end(kWholes)) {
    steps_.emplace_back(whole->second);
    byte_level_ |= whole->second == Whole::kByteLevel;
  } else if (type == "Strip") {
    steps_.emplace_back(Strip{RequiredBool(normalizer, "strip_left", what),
                              RequiredBool(normalizer, "strip_right", what)});
  } else if (type == "Prepend") {
    steps_.emplace_back(Prepend{RequiredString(normalizer, "prepend", what)});
  } else if (type == "Replace") {
    steps_.emplace_back(
        Replace{ReadPattern(normalizer, what), RequiredString(normalizer, "content", what)});
  } else {
    Fail(ErrorCode::kUnsupported,
         "{}: normalizer {} is not supported, only Sequence, NFC, NFD, NFKC, NFKD, Lowercase, "
         "StripAccents, Strip, Prepend, Replace and ByteLevel",
         what, Quoted(type));
  }
}

void Normalizer::ReplaceAll(const Replace& step, std::size_t original_bytes, Result& result) {
  const std::string text = std::move(result.text);
  std::string next;
  next.reserve(text.size() + text.size() / 4);
  MatchIterator matches(step.pattern, text);
  std::size_t copied = 0;
  while (const auto match = matches.Next()) {
    // What replaces several characters counts as standing where the last of them stood.
    if (match->begin == 0 && match->end > 0) {
      result.keeps_start &= match->end == Utf8Length(text[0]) && !step.content.empty();
    }
    next.append(text, copied, static_cast<std::size_t>(match->begin) - copied);
    next += step.content;
    CheckGrowth(next.size(), original_bytes);
    copied = static_cast<std::size_t>(match->end);
  }
  next.append(text, copied);
  result.text = std::move(next);
}

void Normalizer::Apply(const Step& step, std::size_t original_bytes, Result& result) {
  std::string& text = result.text;
  if (const auto* form = std::get_if<NormalForm>(&step)) {
    text = Normalized(text, *form);
  } else if (const auto* strip = std::get_if<Strip>(&step)) {
    result.keeps_start &= !strip->left || !IsWhiteSpace(DecodeUtf8(text, 0));
    text = Trimmed(text, strip->left, strip->right);
  } else if (const auto* prepend = std::get_if<Prepend>(&step)) {
    text.insert(0, prepend->content);
  } else if (const auto* replace = std::get_if<Replace>(&step)) {
    ReplaceAll(*replace, original_bytes, result);
  } else if (const Whole whole = std::get<Whole>(step); whole == Whole::kStripAccents) {
    result.keeps_start &= !IsMark(DecodeUtf8(text, 0));
    text = WithoutMarks(text);
  } else {
    text = whole == Whole::kLowercase ? Lowercase(text) : SpellBytes(text);
  }
}

Normalizer::Result Normalizer::Normalize(std::string_view text) const {
  Result result{std::string(text)};
  for (const Step& step : steps_) {
    if (result.text.empty()) break;  // nothing is put in front of an empty text, or replaced in it
    Apply(step, text.size(), result);
    CheckGrowth(result.text.size(), text.size());
  }
  return result;
}

}  // namespace narrow
