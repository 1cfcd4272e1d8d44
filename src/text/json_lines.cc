#include "text/json_lines.h"

#include <limits>
#include <utility>

#include "base/error.h"
#include "text/utf8.h"

namespace narrow {
namespace {

constexpr int32_t kLargestId = std::numeric_limits<int32_t>::max();

// Null when it is absent or null.
const Json* Member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

// The list of ids, or null when the line holds text. In a line that has a text other members called
// "tokens", such as a count or words, mean something else; ids beside a text are two documents.
const Json* FindIds(const Json& line, const std::string& where) {
  if (line.is_array()) return &line;
  if (!line.is_object()) {
    Fail(ErrorCode::kCorruptInput,
         "{}: expected a JSON object with \"text\" or \"tokens\", or an array of token ids, found "
         "{}",
         where, line.type_name());
  }
  const Json* tokens = Member(line, "tokens");
  if (tokens == nullptr) return nullptr;
  if (Member(line, "text") == nullptr) return OptionalArray(line, "tokens", where);
  if (tokens->is_array() && !tokens->empty() && tokens->front().is_number()) {
    Fail(ErrorCode::kCorruptInput,
         "{}: has \"text\" and \"tokens\"; a document is one of the two, so leave one out", where);
  }
  return nullptr;
}

std::string TextOf(const Json& line, const std::string& where) {
  if (!line.contains("text")) {
    Fail(ErrorCode::kCorruptInput, "{}: {}", where,
         line.contains("tokens") ? "\"tokens\" is null, and there is no \"text\""
                                 : "\"text\" is missing, and so is \"tokens\"");
  }
  return RequiredString(line, "text", where);
}

std::vector<int32_t> ReadIds(const Json& list, const std::string& where) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& value : list) {
    const int64_t id = value.is_number_integer() ? value.get<int64_t>() : -1;
    if (id < 0 || id > kLargestId) {
      Fail(ErrorCode::kCorruptInput, "{}: token {} should be a whole number from 0 to {}, found {}",
           where, ids.size() + 1, kLargestId, value.is_number() ? value.dump() : value.type_name());
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

}  // namespace

JsonLinesParser::JsonLinesParser(std::string what, const JsonLinesLimits& limits)
    : what_(std::move(what)), limits_(limits) {}

bool JsonLinesParser::full() const {
  return limits_.max_documents > 0 &&
         std::ssize(lines_.texts) + std::ssize(lines_.tokens) >= limits_.max_documents;
}

bool JsonLinesParser::Add(std::string_view bytes) {
  while (!full() && !bytes.empty()) {
    const std::size_t newline = bytes.find('\n');
    const std::string_view part = bytes.substr(0, newline);
    CheckLineLength(pending_.size() + part.size());
    if (newline == std::string_view::npos) {
      pending_ += part;
      break;
    }
    if (pending_.empty()) {
      AddLine(part);
    } else {
      pending_ += part;
      AddLine(pending_);
      pending_.clear();
    }
    bytes.remove_prefix(newline + 1);
  }
  return !full();
}

JsonLines JsonLinesParser::Finish() {
  if (!full() && !pending_.empty()) AddLine(pending_);
  pending_.clear();
  return std::move(lines_);
}

void JsonLinesParser::CheckLineLength(std::size_t bytes) const {
  if (static_cast<int64_t>(bytes) <= limits_.max_line_bytes) return;
  Fail(ErrorCode::kCorruptInput,
       "{}, line {}: longer than {} bytes; expected one JSON object on each line", what_,
       line_number_ + 1, limits_.max_line_bytes);
}

void JsonLinesParser::AddLine(std::string_view line) {
  ++line_number_;
  if (IsWhiteSpace(line)) return;
  const std::string where = fmt::format("{}, line {}", what_, line_number_);
  if (const int64_t offset = FindInvalidUtf8(line); offset >= 0) {
    Fail(ErrorCode::kCorruptInput, "{}: not valid UTF-8 at byte {} of the line", where, offset + 1);
  }
  const Json document = ParseJson(line, where);
  if (const Json* ids = FindIds(document, where)) {
    AddTokens(*ids, where);
  } else {
    AddText(TextOf(document, where), where);
  }
}

void JsonLinesParser::AddText(std::string text, const std::string& where) {
  CheckKind(false, where);
  if (limits_.skip_empty && IsWhiteSpace(text)) {
    ++lines_.empty;
    return;
  }
  CountBytes(text.size(), where);
  lines_.texts.push_back(std::move(text));
}

void JsonLinesParser::AddTokens(const Json& list, const std::string& where) {
  CheckKind(true, where);
  if (limits_.skip_empty && list.empty()) {
    ++lines_.empty;
    return;
  }
  CountBytes(list.size() * sizeof(int32_t), where);
  lines_.tokens.push_back({line_number_, ReadIds(list, where)});
}

void JsonLinesParser::CheckKind(bool tokens, const std::string& where) {
  if (first_document_line_ == 0) {
    first_document_line_ = line_number_;
    holds_tokens_ = tokens;
  }
  if (tokens == holds_tokens_) return;
  const auto kind = [](bool ids) { return ids ? "token ids" : "text"; };
  Fail(ErrorCode::kCorruptInput, "{}: is {}, but line {} is {}; a file holds one or the other",
       where, kind(tokens), first_document_line_, kind(holds_tokens_));
}

void JsonLinesParser::CountBytes(std::size_t bytes, const std::string& where) {
  text_bytes_ += static_cast<int64_t>(bytes);
  if (text_bytes_ <= limits_.max_text_bytes) return;
  Fail(ErrorCode::kUnsupported,
       "{}: more than {} bytes of text; use a smaller file or fewer documents", where,
       limits_.max_text_bytes);
}

bool IsWhiteSpace(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

JsonLines ParseJsonLines(std::string_view bytes, std::string what, const JsonLinesLimits& limits) {
  JsonLinesParser parser(std::move(what), limits);
  parser.Add(bytes);
  return parser.Finish();
}

}  // namespace narrow
