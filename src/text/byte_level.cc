#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace narrow {
namespace {

constexpr char32_t kMaxCharacter = 0x143;

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int16_t, kMaxCharacter + 1> bytes;

  Alphabet() {
    bytes.fill(-1);
    char32_t replacement = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
                             (byte >= 0xAE && byte <= 0xFF);
      const char32_t character = printable ? byte : replacement++;
      AppendUtf8(character, characters[byte]);
      bytes[character] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& GetAlphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

std::string_view ByteLevelCharacter(uint8_t byte) { return GetAlphabet().characters[byte]; }

std::string SpellBytes(std::string_view text) {
  const Alphabet& alphabet = GetAlphabet();
  std::string spelled;
  spelled.reserve(text.size() + text.size() / 4);
  for (const char c : text) spelled += alphabet.characters[static_cast<uint8_t>(c)];
  return spelled;
}

std::optional<std::string> DecodeByteLevel(std::string_view token) {
  const Alphabet& alphabet = GetAlphabet();
  std::string bytes;
  for (std::size_t i = 0; i < token.size(); i += static_cast<std::size_t>(Utf8Length(token[i]))) {
    const char32_t character = DecodeUtf8(token, static_cast<int64_t>(i));
    if (character > kMaxCharacter || alphabet.bytes[character] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(alphabet.bytes[character]));
  }
  return bytes;
}

}  // namespace narrow
