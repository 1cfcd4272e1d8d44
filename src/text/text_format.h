// Numbers and foreign strings as people read them: in the closing table and the model card.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace narrow {

// "0.84 s", "12.3 s", "2 min 05 s", "1 h 02 min 05 s".
std::string FormatSeconds(double seconds);
// "512 bytes", "612.3 MiB", "1.20 GiB".
std::string FormatBytes(int64_t bytes);
// "1,234,567".
std::string FormatCount(int64_t count);
// Relative change with its sign: "+1.68 %". "n/a" unless `before` is positive and both are finite.
std::string FormatChange(double before, double after);

// Valid UTF-8: every byte that is not part of a well-formed character becomes "<0xE2>".
std::string ReadableUtf8(std::string_view bytes);
// `text` on one line: control characters (escape sequences of a terminal among them) become '?'.
std::string PrintableText(std::string_view text);
// `text` on one line with the characters that Markdown or HTML would interpret escaped.
std::string MarkdownText(std::string_view text);
// A command line that a POSIX shell (with $'...') splits into these words again; one line.
std::string ShellCommand(std::span<const std::string> words);

}  // namespace narrow
