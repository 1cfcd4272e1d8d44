#include "import/tokenizer_source.h"

#include <cmath>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "io/json.h"

namespace narrow {
namespace {

TokenizerKind ReadKind(const GgufMetadata& metadata) {
  const std::string model = metadata.String("tokenizer.ggml.model");
  if (model == "llama") return TokenizerKind::kSentencePiece;
  if (model == "gpt2") return TokenizerKind::kByteLevel;
  Fail(ErrorCode::kUnsupported, "{}: tokenizer model {}; gpt2 and llama are imported",
       metadata.what(), Quoted(model));
}

// Files made before April 2024 do not say how text is cut into words, and llama.cpp writes
// "default" where it does not know; a wrong guess would tokenize differently from the model without
// a word.
const WordSplitting& ReadSplitting(const GgufMetadata& metadata,
                                   const std::optional<std::string>& given) {
  constexpr const char* kKey = "tokenizer.ggml.pre";
  const std::string name = given.value_or(metadata.OptionalString(kKey).value_or("default"));
  if (name != "default") return FindWordSplitting(name, metadata.what());
  Fail(ErrorCode::kUnsupported,
       "{}: {}; make the file again with a converter that is newer, or give --pre_tokenizer with "
       "the "
       "one of the model (llama-bpe for Llama 3): {}",
       metadata.what(),
       metadata.Has(kKey) ? "tokenizer.ggml.pre is \"default\", which says nothing"
                          : "no tokenizer.ggml.pre: the file is from before April 2024, when "
                            "pre-tokenizers began to be recorded",
       WordSplittingNames());
}

template <typename T>
const std::vector<T>* Checked(const GgufMetadata& metadata, const char* key,
                              const std::vector<T>* values, std::size_t count) {
  if (values == nullptr) Fail(ErrorCode::kCorruptInput, "{}: no {}", metadata.what(), key);
  if (count != 0 && values->size() != count) {
    Fail(ErrorCode::kCorruptInput, "{}: {} has {} items for {} tokens", metadata.what(), key,
         values->size(), count);
  }
  return values;
}

// llama.cpp writes the runs of spaces among the user's own tokens as spaces. They are pieces like
// others: texts meet them when their spaces have become marks.
void RespellRunsOfSpaces(TokenizerSource& source) {
  for (std::size_t id = 0; id < source.tokens.size(); ++id) {
    std::string& token = source.tokens[id];
    if (token.empty() || token.find_first_not_of(' ') != token.npos) continue;
    std::string marks;
    for (std::size_t i = 0; i < token.size(); ++i) marks += kSpaceMark;
    token = std::move(marks);
    source.types[id] = kOrdinaryToken;
  }
}

void ReadLists(const GgufMetadata& metadata, TokenizerSource& source) {
  constexpr const char* kTokens = "tokenizer.ggml.tokens";
  constexpr const char* kTypes = "tokenizer.ggml.token_type";
  constexpr const char* kMerges = "tokenizer.ggml.merges";
  constexpr const char* kScores = "tokenizer.ggml.scores";
  source.tokens = *Checked(metadata, kTokens, metadata.OptionalStrings(kTokens), 0);
  const std::size_t count = source.tokens.size();
  source.types = *Checked(metadata, kTypes, metadata.OptionalInts(kTypes), count);
  if (source.kind == TokenizerKind::kSentencePiece) {
    source.scores = Checked(metadata, kScores, metadata.OptionalNumbers(kScores), count);
    for (const double score : *source.scores) {
      if (std::isfinite(score)) continue;
      Fail(ErrorCode::kCorruptInput, "{}: {} holds a score that is not finite", metadata.what(),
           kScores);
    }
  } else {
    source.merges = Checked(metadata, kMerges, metadata.OptionalStrings(kMerges), 0);
  }
  if (source.kind == TokenizerKind::kSentencePiece && source.order == PieceOrder::kIds) {
    RespellRunsOfSpaces(source);
  }
  std::unordered_set<std::string_view> seen;
  for (const std::string& token : source.tokens) {
    if (!token.empty() && seen.insert(token).second) continue;
    Fail(ErrorCode::kCorruptInput, "{}: token {} is {}", metadata.what(), Quoted(token),
         token.empty() ? "empty" : "there twice");
  }
}

std::optional<int64_t> ReadId(const GgufMetadata& metadata, const char* name,
                              const TokenizerSource& source) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  const std::optional<int64_t> id = metadata.OptionalInt(key);
  const auto count = static_cast<int64_t>(source.tokens.size());
  if (id && (*id < 0 || *id >= count)) {
    Fail(ErrorCode::kCorruptInput, "{}: {} is {}; there are {} tokens", metadata.what(), key, *id,
         count);
  }
  return id;
}

// What llama.cpp takes when the file of a SentencePiece model does not say.
void SetSentencePieceDefaults(const GgufMetadata& metadata, TokenizerSource& source) {
  if (source.tokens.size() < 3) {
    Fail(ErrorCode::kCorruptInput, "{}: a vocabulary of {} tokens", metadata.what(),
         source.tokens.size());
  }
  source.unknown = source.unknown.value_or(0);
  source.bos = source.bos.value_or(1);
  source.eos = source.eos.value_or(2);
}

}  // namespace

TokenizerSource ReadTokenizerSource(const GgufMetadata& metadata,
                                    const std::optional<std::string>& pre_tokenizer,
                                    PieceOrder order) {
  TokenizerSource source;
  source.order = order;
  source.kind = ReadKind(metadata);
  if (source.kind == TokenizerKind::kByteLevel) {
    source.splitting = &ReadSplitting(metadata, pre_tokenizer);
  } else if (pre_tokenizer) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: --pre_tokenizer {} is for tokenizer model gpt2; this one is llama, which needs none",
         metadata.what(), *pre_tokenizer);
  }
  ReadLists(metadata, source);
  source.bos = ReadId(metadata, "bos", source);
  source.eos = ReadId(metadata, "eos", source);
  source.end_of_turn = ReadId(metadata, "eot", source);
  source.unknown = ReadId(metadata, "unknown", source);
  source.padding = ReadId(metadata, "padding", source);
  if (source.kind == TokenizerKind::kSentencePiece) SetSentencePieceDefaults(metadata, source);
  source.add_bos = metadata.OptionalBool("tokenizer.ggml.add_bos_token")
                       .value_or(source.splitting == nullptr || source.splitting->add_bos);
  source.add_eos = metadata.OptionalBool("tokenizer.ggml.add_eos_token").value_or(false);
  source.add_space_prefix = metadata.OptionalBool("tokenizer.ggml.add_space_prefix").value_or(true);
  if ((source.add_bos && !source.bos) || (source.add_eos && !source.eos)) {
    Fail(ErrorCode::kCorruptInput, "{}: the tokenizer adds a token at the {} but names none",
         metadata.what(), source.add_bos && !source.bos ? "beginning" : "end");
  }
  source.chat_template = metadata.OptionalString("tokenizer.chat_template");
  return source;
}

}  // namespace narrow
