// Normal forms and case of Unicode text, as the normalizers of `tokenizers` 0.23 give them.
#pragma once

#include <string>
#include <string_view>

namespace narrow {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// REQUIRES of all: `text` is valid UTF-8.

// The normal form of Unicode 9, which the reference has: characters that are newer stay as they
// are, and nothing moves or joins across them. Linear in the text but for the order of marks (n log
// n).
std::string Normalized(std::string_view text, NormalForm form);

// Every character in lower case by itself (Unicode 17); no rule looks at its neighbours.
std::string Lowercase(std::string_view text);

// Whether the character is of general category M (Unicode 9).
bool IsMark(char32_t c);

// Without such characters.
std::string WithoutMarks(std::string_view text);

}  // namespace narrow
