#include "text/json_lines.h"

#include <utility>

#include "base/error.h"
#include "io/json.h"
#include "text/utf8.h"

namespace narrow {

JsonLinesParser::JsonLinesParser(std::string what, const JsonLinesLimits& limits)
    : what_(std::move(what)), limits_(limits) {}

bool JsonLinesParser::full() const {
  return limits_.max_documents > 0 &&
         static_cast<int64_t>(documents_.size()) >= limits_.max_documents;
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

std::vector<std::string> JsonLinesParser::Finish() {
  if (!full() && !pending_.empty()) AddLine(pending_);
  pending_.clear();
  return std::move(documents_);
}

void JsonLinesParser::CheckLineLength(std::size_t bytes) const {
  if (static_cast<int64_t>(bytes) <= limits_.max_line_bytes) return;
  Fail(ErrorCode::kCorruptInput,
       "{}, line {}: longer than {} bytes; expected one JSON object on each line", what_,
       line_number_ + 1, limits_.max_line_bytes);
}

void JsonLinesParser::AddLine(std::string_view line) {
  ++line_number_;
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
  const std::string where = fmt::format("{}, line {}", what_, line_number_);
  if (const int64_t offset = FindInvalidUtf8(line); offset >= 0) {
    Fail(ErrorCode::kCorruptInput, "{}: not valid UTF-8 at byte {} of the line", where, offset + 1);
  }
  const Json object = ParseJson(line, where);
  if (!object.is_object()) {
    Fail(ErrorCode::kCorruptInput, "{}: expected a JSON object with member \"text\", found {}",
         where, object.type_name());
  }
  std::string text = RequiredString(object, "text", where);
  text_bytes_ += static_cast<int64_t>(text.size());
  if (text_bytes_ > limits_.max_text_bytes) {
    Fail(ErrorCode::kUnsupported,
         "{}: more than {} bytes of text; use a smaller file or fewer documents", where,
         limits_.max_text_bytes);
  }
  documents_.push_back(std::move(text));
}

std::vector<std::string> ParseJsonLines(std::string_view bytes, std::string what,
                                        const JsonLinesLimits& limits) {
  JsonLinesParser parser(std::move(what), limits);
  parser.Add(bytes);
  return parser.Finish();
}

}  // namespace narrow
