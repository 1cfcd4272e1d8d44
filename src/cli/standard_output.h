// Standard output whose failures are errors.
#pragma once

#include <string_view>

namespace narrow {

// Buffered; FlushOutput() ends every command. Throws: kIo when it cannot be written to (a full
// disk, a pipe without a reader, a stream that is closed).
void Print(std::string_view text);
void FlushOutput();

// Prints and flushes what a command says after it has made a directory; an error says that this is
// complete all the same.
void PrintOfFinished(std::string_view directory, std::string_view text);

}  // namespace narrow
