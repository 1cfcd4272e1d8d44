#include "text/text_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "text/utf8.h"

namespace narrow {
namespace {

bool IsControl(unsigned char c) { return c < 0x20 || c == 0x7F; }

// The words a shell leaves alone without quotes.
bool IsPlainWord(std::string_view word) {
  constexpr std::string_view kPlain = "_-./=:,+@%";
  return !word.empty() && std::ranges::all_of(word, [&](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || kPlain.find(c) != kPlain.npos;
  });
}

std::string QuotedWord(std::string_view word) {
  if (IsPlainWord(word)) return std::string(word);
  const bool control = std::ranges::any_of(word, [](char c) { return IsControl(c); });
  std::string quoted = control ? "$'" : "'";
  for (const char c : word) {
    if (control && IsControl(c)) {
      // Octal takes at most three digits, so what follows cannot become part of it.
      quoted += fmt::format("\\{:03o}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else if (control && (c == '\'' || c == '\\')) {
      quoted += {'\\', c};
    } else if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

}  // namespace

std::string FormatSeconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "n/a";
  if (seconds < 10) return fmt::format("{:.2f} s", seconds);
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const int64_t whole = std::llround(std::min(seconds, 1e15));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min {:02} s", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string FormatBytes(int64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024) return fmt::format("{} bytes", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : 1, kUnits[unit]);
}

std::string FormatCount(int64_t count) {
  std::string grouped;
  const std::string digits = fmt::format("{}", count);
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const bool after_digit = i > 0 && digits[i - 1] != '-';
    if (after_digit && (digits.size() - i) % 3 == 0) grouped += ',';
    grouped += digits[i];
  }
  return grouped;
}

std::string FormatChange(double before, double after) {
  if (!std::isfinite(before) || !std::isfinite(after) || before <= 0) return "n/a";
  return fmt::format("{:+.2f} %", (after / before - 1) * 100);
}

std::string ReadableUtf8(std::string_view bytes) {
  std::string readable;
  while (!bytes.empty()) {
    const int64_t invalid = FindInvalidUtf8(bytes);
    if (invalid < 0) return readable.append(bytes);
    readable.append(bytes.substr(0, static_cast<std::size_t>(invalid)));
    bytes.remove_prefix(static_cast<std::size_t>(invalid));
    readable += fmt::format("<0x{:02X}>", static_cast<unsigned char>(bytes.front()));
    bytes.remove_prefix(1);
  }
  return readable;
}

std::string PrintableText(std::string_view text) {
  std::string printable;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    // U+0080..U+009F, which some terminals obey, are C2 80..C2 9F in UTF-8.
    const bool wide_control = c == 0xC2 && i + 1 < text.size() &&
                              static_cast<unsigned char>(text[i + 1]) >= 0x80 &&
                              static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (wide_control) ++i;
    printable += wide_control || IsControl(c) ? '?' : text[i];
  }
  return printable;
}

std::string MarkdownText(std::string_view text) {
  constexpr std::string_view kActive = "\\`*[]<>|";
  std::string markdown;
  for (const char c : PrintableText(text)) {
    if (c == '&') {
      markdown += "&amp;";
      continue;
    }
    if (kActive.find(c) != kActive.npos) markdown += '\\';
    markdown += c;
  }
  return markdown;
}

std::string ShellCommand(std::span<const std::string> words) {
  std::string command;
  for (const std::string& word : words) {
    if (!command.empty()) command += ' ';
    command += QuotedWord(word);
  }
  return command;
}

}  // namespace narrow
