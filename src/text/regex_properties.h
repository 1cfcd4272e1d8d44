// The members of Oniguruma's classes of characters, in PCRE2's notation.
#pragma once

#include <string>
#include <string_view>

namespace narrow {

// All of these return what belongs between the brackets of a class. Members are those of Oniguruma
// 6.9.10 (Unicode 16), counted with `tokenizers`. The properties Alphabetic, Uppercase, Lowercase
// and those of emoji keep PCRE2's version (14), and so does U+1171E, which is no longer in Mn.

// \p{name}: general categories, scripts (not their extensions) and a few binary properties. A name
// that is none of them is left for PCRE2 to refuse.
std::string PropertyMembers(std::string_view name);
// \s, \d, \w and \h (a hexadecimal digit).
std::string ShorthandMembers(char letter);
// [:name:]; empty for a name that is not known here.
std::string BracketMembers(std::string_view name);

}  // namespace narrow
