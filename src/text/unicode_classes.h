// Classes of characters, with the members they have in `tokenizers` 0.23. Each of them follows
// another version of Unicode there; all were counted with that package over every character.
#pragma once

namespace narrow {

// Whether the character has general category Nd, Nl or No (Unicode 17), as pre-tokenizer Digits
// asks; PCRE2's own tables are older.
bool IsNumeric(char32_t code_point);

// What pre-tokenizer Punctuation splits at: 726 characters, ASCII symbols such as "$" among them.
bool IsPunctuation(char32_t code_point);

// Whether a normal form would treat the character as a mark or change it, although the Unicode
// version (9) of the reference's normal forms does not know it: there it is a letter like any
// other.
bool IsNewToNormalForms(char32_t code_point);

// White_Space: 25 characters.
bool IsWhiteSpace(char32_t code_point);

}  // namespace narrow
