// Documents from .jsonl, one per line: a JSON object whose member "text" is a string or whose
// member "tokens" is an array of token ids, or such an array alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"

namespace narrow {

struct JsonLinesLimits {
  int64_t max_documents = 0;                   // 0: no limit
  int64_t max_line_bytes = int64_t{32} << 20;  // a parsed line takes many times its length
  int64_t max_text_bytes = int64_t{4} << 30;   // of all documents together; an id counts as four
  // Documents of ASCII white space only and empty lists of ids are passed over: they are counted,
  // but not among max_documents.
  bool skip_empty = false;
};

// A document that is token ids.
struct TokenLine {
  int64_t line = 0;          // in its file, from 1
  std::vector<int32_t> ids;  // 0 or more each
  bool operator==(const TokenLine&) const = default;
};

// What a file holds, in file order: texts (valid UTF-8) or token ids, never both.
struct JsonLines {
  std::vector<std::string> texts;
  std::vector<TokenLine> tokens;
  int64_t empty = 0;  // documents passed over
  bool operator==(const JsonLines&) const = default;
};

// Takes a file piece by piece and holds no more than the documents and one line. Lines of white
// space only are skipped; the last line needs no newline. Thread-compatible.
class JsonLinesParser {
 public:
  // `what` names the file in messages.
  explicit JsonLinesParser(std::string what, const JsonLinesLimits& limits = {});

  // Takes the next bytes. False once there are max_documents documents: what follows is not looked
  // at. Throws: kCorruptInput with the line number (too long, neither object nor array, bad UTF-8,
  // neither "text" nor "tokens" or both, of another type, an id that is none, the other kind than
  // the lines before); kUnsupported when there is more text than max_text_bytes.
  bool Add(std::string_view bytes);

  // The documents. Call once, after all bytes. Throws as Add does.
  JsonLines Finish();

 private:
  bool full() const;
  void AddLine(std::string_view line);
  void AddText(std::string text, const std::string& where);
  void AddTokens(const Json& list, const std::string& where);
  void CheckKind(bool tokens, const std::string& where);
  void CountBytes(std::size_t bytes, const std::string& where);
  void CheckLineLength(std::size_t bytes) const;

  std::string what_;
  JsonLinesLimits limits_;
  std::string pending_;  // the start of a line whose end has not come yet
  int64_t line_number_ = 0;
  int64_t first_document_line_ = 0;  // 0: none yet
  bool holds_tokens_ = false;        // the first document does
  int64_t text_bytes_ = 0;
  JsonLines lines_;
};

// Nothing but ASCII white space, or nothing at all.
bool IsWhiteSpace(std::string_view text);

// All of it at once. Throws as JsonLinesParser does.
JsonLines ParseJsonLines(std::string_view bytes, std::string what,
                         const JsonLinesLimits& limits = {});

}  // namespace narrow
