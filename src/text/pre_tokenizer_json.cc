#include "base/error.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace narrow {
namespace {

constexpr int kMaxNesting = 8;
constexpr std::size_t kMaxSteps = 64;  // each is a level of recursion
// Source: ByteLevel of `tokenizers`, after GPT-2's encoder.py.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr int64_t kFixedLength = 5;       // the reference's default
constexpr int64_t kMaxFixedLength = 255;  // a repetition count that every engine takes

std::string ReadCharacter(const Json& object, const char* key, std::string_view what) {
  std::string text = RequiredString(object, key, what);
  if (text.empty() || Utf8Length(text[0]) != static_cast<int64_t>(text.size())) {
    Fail(ErrorCode::kCorruptInput, "{}: {} of a pre-tokenizer must be one character, found {}",
         what, key, Quoted(text));
  }
  return text;
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& tokenizer, std::string_view what) {
  if (const Json* pre_tokenizer = OptionalObject(tokenizer, "pre_tokenizer", what)) {
    Add(*pre_tokenizer, what, 0);
  }
}

void PreTokenizer::Add(const Json& pre_tokenizer, std::string_view what, int depth) {
  const std::string type = RequiredString(pre_tokenizer, "type", what);
  if (steps_.size() >= kMaxSteps) {
    Fail(ErrorCode::kUnsupported, "{}: more than {} pre-tokenizers are not supported", what,
         kMaxSteps);
  }
  if (type == "Sequence" && depth < kMaxNesting) {
    const Json* list = OptionalArray(pre_tokenizer, "pretokenizers", what);
    if (list == nullptr) {
      Fail(ErrorCode::kCorruptInput, "{}: pre-tokenizer Sequence has no pretokenizers", what);
    }
    for (const Json& item : *list) Add(item, what, depth + 1);
    return;
  }
  if (byte_level_) {  // what follows sees the spelling
    steps_.push_back(Spelling{});
    byte_level_ = false;
    spelled_ = true;
  }
  if (type == "Metaspace") return AddMetaspace(pre_tokenizer, what);
  if (type == "ByteLevel") return AddByteLevel(pre_tokenizer, what);
  if (AddClassSplit(pre_tokenizer, type, what) || AddPatternSplit(pre_tokenizer, type, what)) {
    return;
  }
  Fail(ErrorCode::kUnsupported,
       "{}: pre-tokenizer {} is not supported, only Sequence, Split, Digits, Punctuation, "
       "Whitespace, WhitespaceSplit, CharDelimiterSplit, BertPreTokenizer, FixedLength, Metaspace "
       "and ByteLevel",
       what, Quoted(type));
}

// Those that split at the characters of a class. False for another type.
bool PreTokenizer::AddClassSplit(const Json& pre_tokenizer, std::string_view type,
                                 std::string_view what) {
  if (type == "Digits") {
    const bool individual = OptionalBool(pre_tokenizer, "individual_digits", what).value_or(false);
    steps_.push_back(
        ClassSplit{IsNumeric, individual ? Behavior::kIsolated : Behavior::kContiguous});
  } else if (type == "Punctuation") {
    const std::string behavior =
        OptionalString(pre_tokenizer, "behavior", what).value_or("Isolated");
    steps_.push_back(ClassSplit{IsPunctuation, ReadBehavior(behavior, what)});
  } else if (type == "WhitespaceSplit" || type == "BertPreTokenizer") {
    steps_.push_back(ClassSplit{IsWhiteSpace, Behavior::kRemoved});
    if (type == "BertPreTokenizer") {
      steps_.push_back(ClassSplit{IsPunctuation, Behavior::kIsolated});
    }
  } else {
    return false;
  }
  return true;
}

// Those that split at the matches of a pattern. False for another type.
bool PreTokenizer::AddPatternSplit(const Json& pre_tokenizer, std::string_view type,
                                   std::string_view what) {
  if (type == "Split") {
    AddSplit(pre_tokenizer, what);
  } else if (type == "Whitespace") {
    std::string members(kRustWordClass.substr(1, kRustWordClass.size() - 2));
    const std::string pattern = fmt::format(R"([{0}]+|[^\s{0}]+)", members);
    steps_.push_back(RegexSplit{Regex(pattern), Behavior::kRemoved, true});
  } else if (type == "CharDelimiterSplit") {
    steps_.push_back(RegexSplit{Regex::Literal(ReadCharacter(pre_tokenizer, "delimiter", what)),
                                Behavior::kRemoved, false});
  } else if (type == "FixedLength") {
    const int64_t length = OptionalInt(pre_tokenizer, "length", what).value_or(kFixedLength);
    if (length < 1 || length > kMaxFixedLength) {
      Fail(ErrorCode::kUnsupported, "{}: FixedLength of {}, expected 1 to {}", what, length,
           kMaxFixedLength);
    }
    steps_.push_back(RegexSplit{Regex(fmt::format(R"([\x{{0}}-\x{{10ffff}}]{{1,{}}})", length)),
                                Behavior::kIsolated, false});
  } else {
    return false;
  }
  return true;
}

PreTokenizer::Behavior PreTokenizer::ReadBehavior(const std::string& name, std::string_view what) {
  static constexpr std::pair<std::string_view, Behavior> kBehaviors[] = {
      {"Removed", Behavior::kRemoved},
      {"Isolated", Behavior::kIsolated},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous}};
  for (const auto& [known, behavior] : kBehaviors) {
    if (name == known) return behavior;
  }
  Fail(ErrorCode::kCorruptInput, "{}: a pre-tokenizer has no behavior {}", what, Quoted(name));
}

void PreTokenizer::AddSplit(const Json& pre_tokenizer, std::string_view what) {
  const Behavior behavior = ReadBehavior(RequiredString(pre_tokenizer, "behavior", what), what);
  const bool invert = OptionalBool(pre_tokenizer, "invert", what).value_or(false);
  steps_.push_back(RegexSplit{ReadPattern(pre_tokenizer, what), behavior, invert});
}

void PreTokenizer::AddMetaspace(const Json& pre_tokenizer, std::string_view what) {
  Metaspace step;
  step.replacement = ReadCharacter(pre_tokenizer, "replacement", what);
  // Before prepend_scheme there was add_prefix_space; what is written today may hold both.
  const bool add_prefix_space =
      OptionalBool(pre_tokenizer, "add_prefix_space", what).value_or(true);
  const std::string scheme = OptionalString(pre_tokenizer, "prepend_scheme", what)
                                 .value_or(add_prefix_space ? "always" : "never");
  if (!add_prefix_space && scheme != "never") {
    Fail(ErrorCode::kCorruptInput, "{}: Metaspace has add_prefix_space false and prepend_scheme {}",
         what, Quoted(scheme));
  }
  if (scheme == "first") {
    step.prepend = Prepend::kFirst;
  } else if (scheme == "never") {
    step.prepend = Prepend::kNever;
  } else if (scheme != "always") {
    Fail(ErrorCode::kCorruptInput, "{}: Metaspace has no prepend_scheme {}", what, Quoted(scheme));
  }
  const std::string replacement = step.replacement;
  steps_.push_back(std::move(step));
  if (OptionalBool(pre_tokenizer, "split", what).value_or(true)) {
    steps_.push_back(RegexSplit{Regex::Literal(replacement), Behavior::kMergedWithNext, false});
  }
}

void PreTokenizer::AddByteLevel(const Json& pre_tokenizer, std::string_view what) {
  if (OptionalBool(pre_tokenizer, "add_prefix_space", what).value_or(true)) {
    steps_.push_back(SpacePrefix{});
  }
  if (OptionalBool(pre_tokenizer, "use_regex", what).value_or(true)) {
    steps_.push_back(RegexSplit{Regex(kByteLevelPattern), Behavior::kIsolated, false});
  }
  byte_level_ = true;
}

}  // namespace narrow
