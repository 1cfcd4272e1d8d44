// The alphabet of byte-level BPE: one printable character for each byte.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace narrow {

// The character that stands for `byte` in the vocabulary, as UTF-8.
// Source: bytes_to_unicode of GPT-2's encoder.py.
std::string_view ByteLevelCharacter(uint8_t byte);

// Every byte of `text` as its character.
std::string SpellBytes(std::string_view text);

// The bytes a token of the vocabulary stands for; nothing if it has a character outside the
// alphabet. REQUIRES: `token` is valid UTF-8.
std::optional<std::string> DecodeByteLevel(std::string_view token);

}  // namespace narrow
