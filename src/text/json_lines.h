// Documents from .jsonl: one JSON object per line, the text in its string member "text".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace narrow {

struct JsonLinesLimits {
  int64_t max_documents = 0;                   // 0: no limit
  int64_t max_line_bytes = int64_t{32} << 20;  // a parsed line takes many times its length
  int64_t max_text_bytes = int64_t{4} << 30;   // of all documents together
};

// Takes a file piece by piece and holds no more than the documents and one line. Lines of white
// space only are skipped; the last line needs no newline. Thread-compatible.
class JsonLinesParser {
 public:
  // `what` names the file in messages.
  explicit JsonLinesParser(std::string what, const JsonLinesLimits& limits = {});

  // Takes the next bytes. False once there are max_documents documents: what follows is not looked
  // at. Throws: kCorruptInput with the line number (too long, not a JSON object, bad UTF-8, no
  // string "text"); kUnsupported when there is more text than max_text_bytes.
  bool Add(std::string_view bytes);

  // The documents in file order. Call once, after all bytes. Throws as Add does.
  std::vector<std::string> Finish();

 private:
  bool full() const;
  void AddLine(std::string_view line);
  void CheckLineLength(std::size_t bytes) const;

  std::string what_;
  JsonLinesLimits limits_;
  std::string pending_;  // the start of a line whose end has not come yet
  int64_t line_number_ = 0;
  int64_t text_bytes_ = 0;
  std::vector<std::string> documents_;
};

// All of it at once. Throws as JsonLinesParser does.
std::vector<std::string> ParseJsonLines(std::string_view bytes, std::string what,
                                        const JsonLinesLimits& limits = {});

}  // namespace narrow
