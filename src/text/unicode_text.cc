#include "text/unicode_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/error.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace narrow {
namespace {

// The longest compatibility decomposition has 18 characters.
constexpr utf8proc_ssize_t kLongestDecomposition = 32;

utf8proc_option_t Options(NormalForm form) {
  int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
  if (form == NormalForm::kNfkc || form == NormalForm::kNfkd) options |= UTF8PROC_COMPAT;
  if (form == NormalForm::kNfc || form == NormalForm::kNfkc) options |= UTF8PROC_COMPOSE;
  return static_cast<utf8proc_option_t>(options);
}

int CombiningClass(int32_t c) { return utf8proc_get_property(c)->combining_class; }

// Collects decomposed characters and writes them out in normal form. The library's own loop for the
// order of marks takes the square of their number.
class Composer {
 public:
  Composer(NormalForm form, std::string& output) : options_(Options(form)), output_(output) {}

  void Add(char32_t c) {
    const auto code_point = static_cast<utf8proc_int32_t>(c);
    utf8proc_int32_t parts[kLongestDecomposition];
    int last_boundary = UTF8PROC_BOUNDCLASS_START;
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        code_point, parts, kLongestDecomposition,
        static_cast<utf8proc_option_t>(options_ & ~UTF8PROC_COMPOSE), &last_boundary);
    NARROW_CHECK(count >= 0 && count <= kLongestDecomposition);
    characters_.insert(characters_.end(), parts, parts + count);
  }

  void Finish() {
    const auto starter = [](int32_t c) { return CombiningClass(c) == 0; };
    for (auto begin = characters_.begin(); begin != characters_.end();) {
      begin = std::find_if_not(begin, characters_.end(), starter);
      const auto end = std::find_if(begin, characters_.end(), starter);
      std::stable_sort(begin, end,
                       [](int32_t a, int32_t b) { return CombiningClass(a) < CombiningClass(b); });
      begin = end;
    }
    auto count = static_cast<utf8proc_ssize_t>(characters_.size());
    if ((options_ & UTF8PROC_COMPOSE) != 0 && count > 0) {
      count = utf8proc_normalize_utf32(characters_.data(), count, options_);
    }
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      AppendUtf8(static_cast<char32_t>(characters_[static_cast<std::size_t>(i)]), output_);
    }
    characters_.clear();
  }

 private:
  utf8proc_option_t options_;
  std::string& output_;
  std::vector<utf8proc_int32_t> characters_;
};

bool IsAscii(char c) { return static_cast<unsigned char>(c) < 0x80; }

// What `tokenizers` (Rust 1.9x, Unicode 17) puts in lower case and the library (Unicode 15) does
// not: [first, last] move by `distance`.
struct NewerCase {
  char32_t first;
  char32_t last;
  int32_t distance;
};
constexpr NewerCase kNewerCases[] = {
    {0x1C89, 0x1C89, 1},      {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
    {0xA7CC, 0xA7CC, 1},      {0xA7CE, 0xA7CE, 1},
    {0xA7D2, 0xA7D2, 1},      {0xA7D4, 0xA7D4, 1},
    {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
    {0x10D50, 0x10D65, 0x20}, {0x16EA0, 0x16EB8, 0x1B},
};

char32_t LowerCharacter(char32_t c) {
  const auto* newer = std::find_if(std::begin(kNewerCases), std::end(kNewerCases),
                                   [=](const NewerCase& n) { return c >= n.first && c <= n.last; });
  if (newer != std::end(kNewerCases)) {
    return static_cast<char32_t>(static_cast<int32_t>(c) + newer->distance);
  }
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

}  // namespace

std::string Normalized(std::string_view text, NormalForm form) {
  std::string output;
  output.reserve(text.size());
  Composer composer(form, output);
  for (std::size_t i = 0; i < text.size();) {
    // ASCII stays as it is, but its last character may take the marks that follow.
    std::size_t end = i;
    while (end < text.size() && IsAscii(text[end])) ++end;
    if (end > i) {
      composer.Finish();
      const std::size_t kept = end == text.size() ? end : end - 1;
      output.append(text, i, kept - i);
      if (kept < end) composer.Add(static_cast<unsigned char>(text[kept]));
      i = end;
      continue;
    }
    const char32_t c = DecodeUtf8(text, static_cast<int64_t>(i));
    const auto length = static_cast<std::size_t>(Utf8Length(text[i]));
    if (IsNewToNormalForms(c)) {
      composer.Finish();
      output.append(text, i, length);
    } else {
      composer.Add(c);
    }
    i += length;
  }
  composer.Finish();
  return output;
}

std::string Lowercase(std::string_view text) {
  std::string output;
  output.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); i += static_cast<std::size_t>(Utf8Length(text[i]))) {
    if (IsAscii(text[i])) {
      const bool upper = text[i] >= 'A' && text[i] <= 'Z';
      output += upper ? static_cast<char>(text[i] + ('a' - 'A')) : text[i];
      continue;
    }
    const char32_t c = DecodeUtf8(text, static_cast<int64_t>(i));
    if (c == 0x130) {
      output += "i\u0307";  // the one capital that becomes two characters
    } else {
      AppendUtf8(LowerCharacter(c), output);
    }
  }
  return output;
}

bool IsMark(char32_t c) {
  if (c < 0x300 || IsNewToNormalForms(c)) return false;
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
         category == UTF8PROC_CATEGORY_ME || c == 0x1CF2 ||
         c == 0x1CF3;  // letters since Unicode 12
}

std::string WithoutMarks(std::string_view text) {
  std::string output;
  output.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto length = static_cast<std::size_t>(Utf8Length(text[i]));
    if (!IsMark(DecodeUtf8(text, static_cast<int64_t>(i)))) output.append(text, i, length);
    i += length;
  }
  return output;
}

}  // namespace narrow
