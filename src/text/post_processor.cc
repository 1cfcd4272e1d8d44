#include "text/post_processor.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "text/bpe_model.h"

namespace narrow {
namespace {

constexpr int kMaxNesting = 8;
constexpr std::size_t kMaxPieces = 64;

}  // namespace

PostProcessor::PostProcessor(const Json& tokenizer, std::string_view what) {
  if (const Json* processor = OptionalObject(tokenizer, "post_processor", what)) {
    Add(*processor, what, 0);
  }
}

void PostProcessor::Add(const Json& processor, std::string_view what, int depth) {
  const std::string type = RequiredString(processor, "type", what);
  if (type == "ByteLevel") return;
  if (type == "TemplateProcessing") return AddTemplate(processor, what);
  if (type == "BertProcessing" || type == "RobertaProcessing") return AddPair(processor, what);
  if (type != "Sequence" || depth >= kMaxNesting) {
    Fail(ErrorCode::kUnsupported,
         "{}: post-processor {} is not supported, only Sequence, TemplateProcessing, "
         "BertProcessing, RobertaProcessing and ByteLevel",
         what, Quoted(type));
  }
  const Json* list = OptionalArray(processor, "processors", what);
  if (list == nullptr) {
    Fail(ErrorCode::kCorruptInput, "{}: post-processor Sequence has no processors", what);
  }
  for (const Json& item : *list) Add(item, what, depth + 1);
}

void PostProcessor::AddPair(const Json& processor, std::string_view what) {
  Template result(3);
  result[1].text = true;
  for (const auto& [key, place] : {std::pair{"cls", 0}, std::pair{"sep", 2}}) {
    const Json* token = OptionalArray(processor, key, what);
    if (token == nullptr || token->size() != 2) {
      Fail(ErrorCode::kCorruptInput, "{}: post-processor has no {} of token and id", what, key);
    }
    result[static_cast<std::size_t>(place)].ids = {ReadId((*token)[1], key, what)};
  }
  Append(std::move(result), what);
}

void PostProcessor::Append(Template pieces, std::string_view what) {
  if (pieces.size() == 1 && pieces[0].text) return;  // adds nothing
  if (!pieces_.empty() || discards_) {
    Fail(ErrorCode::kUnsupported, "{}: two post-processors that add tokens are not supported",
         what);
  }
  discards_ = std::none_of(pieces.begin(), pieces.end(), [](const Piece& p) { return p.text; });
  pieces_ = std::move(pieces);
}

void PostProcessor::AddTemplate(const Json& processor, std::string_view what) {
  const Json* pieces = OptionalArray(processor, "single", what);
  if (pieces == nullptr || pieces->size() > kMaxPieces) {
    Fail(ErrorCode::kCorruptInput, "{}: TemplateProcessing needs \"single\" of at most {} pieces",
         what, kMaxPieces);
  }
  Template result;
  int64_t texts = 0;
  for (const Json& piece : *pieces) {
    if (const Json* sequence = OptionalObject(piece, "Sequence", what)) {
      const std::string id = RequiredString(*sequence, "id", what);
      if (id != "A" || ++texts > 1) {
        Fail(ErrorCode::kCorruptInput, "{}: template for one text must hold sequence A once", what);
      }
      result.push_back({true, {}});
    } else if (const Json* special = OptionalObject(piece, "SpecialToken", what)) {
      const std::string name = RequiredString(*special, "id", what);
      result.push_back({false, ReadSpecialToken(processor, name, what)});
    } else {
      Fail(ErrorCode::kCorruptInput, "{}: template piece is neither Sequence nor SpecialToken",
           what);
    }
  }
  Append(std::move(result), what);
}

std::vector<int32_t> PostProcessor::ReadSpecialToken(const Json& processor, std::string_view name,
                                                     std::string_view what) {
  const Json* tokens = OptionalObject(processor, "special_tokens", what);
  const Json* token = tokens == nullptr ? nullptr : OptionalObject(*tokens, name, what);
  const Json* list = token == nullptr ? nullptr : OptionalArray(*token, "ids", what);
  if (list == nullptr) {
    Fail(ErrorCode::kCorruptInput, "{}: special token {} of the template has no ids", what,
         Quoted(name));
  }
  std::vector<int32_t> ids;
  for (const Json& value : *list) ids.push_back(ReadId(value, name, what));
  return ids;
}

int32_t PostProcessor::ReadId(const Json& value, std::string_view name, std::string_view what) {
  const int64_t id = value.is_number_integer() ? value.get<int64_t>() : -1;
  if (id < 0 || id >= kMaxTokenIds) {
    Fail(ErrorCode::kCorruptInput, "{}: special token {} has an id that is no integer from 0 to {}",
         what, Quoted(name), kMaxTokenIds - 1);
  }
  largest_id_ = std::max(largest_id_, static_cast<int32_t>(id));
  return static_cast<int32_t>(id);
}

std::vector<int32_t> PostProcessor::AddSpecialTokens(std::vector<int32_t> ids) const {
  if (pieces_.empty()) return Pass(std::move(ids));
  std::vector<int32_t> result;
  result.reserve(ids.size() + pieces_.size());
  for (const Piece& piece : pieces_) {
    const std::vector<int32_t>& part = piece.text ? ids : piece.ids;
    result.insert(result.end(), part.begin(), part.end());
  }
  return result;
}

std::vector<int32_t> PostProcessor::Pass(std::vector<int32_t> ids) const {
  if (discards_) ids.clear();
  return ids;
}

}  // namespace narrow
