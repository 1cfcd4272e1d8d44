#include "base/error.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/utf8.h"

namespace narrow {
namespace {

constexpr int kMaxNesting = 8;
constexpr std::size_t kMaxSteps = 64;  // each is a level of recursion
// Source: ByteLevel of `tokenizers`, after GPT-2's encoder.py.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

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
  // The steps after ByteLevel would see its alphabet, which is never written out here.
  if (byte_level_) {
    Fail(ErrorCode::kUnsupported, "{}: pre-tokenizer {} after ByteLevel is not supported", what,
         Quoted(type));
  }
  if (type == "Split") return AddSplit(pre_tokenizer, what);
  if (type == "Metaspace") return AddMetaspace(pre_tokenizer, what);
  if (type == "ByteLevel") return AddByteLevel(pre_tokenizer, what);
  if (type != "Digits") {
    Fail(ErrorCode::kUnsupported,
         "{}: pre-tokenizer {} is not supported, only Sequence, Split, Digits, Metaspace and "
         "ByteLevel",
         what, Quoted(type));
  }
  steps_.push_back(
      DigitsSplit{OptionalBool(pre_tokenizer, "individual_digits", what).value_or(false)});
}

void PreTokenizer::AddSplit(const Json& pre_tokenizer, std::string_view what) {
  const std::string name = RequiredString(pre_tokenizer, "behavior", what);
  Behavior behavior = Behavior::kIsolated;
  if (name == "Removed") {
    behavior = Behavior::kRemoved;
  } else if (name == "MergedWithPrevious") {
    behavior = Behavior::kMergedWithPrevious;
  } else if (name == "MergedWithNext") {
    behavior = Behavior::kMergedWithNext;
  } else if (name == "Contiguous") {
    behavior = Behavior::kContiguous;
  } else if (name != "Isolated") {
    Fail(ErrorCode::kCorruptInput, "{}: pre-tokenizer Split has no behavior {}", what,
         Quoted(name));
  }
  const bool invert = OptionalBool(pre_tokenizer, "invert", what).value_or(false);
  steps_.push_back(RegexSplit{ReadPattern(pre_tokenizer, what), behavior, invert});
}

void PreTokenizer::AddMetaspace(const Json& pre_tokenizer, std::string_view what) {
  Metaspace step;
  step.replacement = RequiredString(pre_tokenizer, "replacement", what);
  if (step.replacement.empty() ||
      Utf8Length(step.replacement[0]) != static_cast<int64_t>(step.replacement.size())) {
    Fail(ErrorCode::kCorruptInput, "{}: replacement of Metaspace must be one character, found {}",
         what, Quoted(step.replacement));
  }
  const bool add_prefix_space =
      OptionalBool(pre_tokenizer, "add_prefix_space", what).value_or(true);
  const std::string scheme = OptionalString(pre_tokenizer, "prepend_scheme", what)
                                 .value_or(add_prefix_space ? "always" : "never");
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
