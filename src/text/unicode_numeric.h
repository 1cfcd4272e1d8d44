// The characters that the pre-tokenizer Digits takes for numbers.
#pragma once

namespace narrow {

// Whether the character has general category Nd, Nl or No, in the Unicode version (17) that
// `tokenizers` 0.23 is built with; PCRE2's own tables are older.
bool IsNumeric(char32_t code_point);

}  // namespace narrow
