// A request to stop, made by a signal and honoured between batches.
#pragma once

namespace narrow {

// Async-signal-safe: called by the handlers of SIGHUP, SIGINT and SIGTERM with their number.
void RequestStop(int signal_number) noexcept;

// Throws kHungUp (SIGHUP), kInterrupted (SIGINT) or kTerminated (SIGTERM) once a stop was
// requested. `how_to_continue` ends the message.
void ThrowIfStopRequested(const char* how_to_continue);

}  // namespace narrow
