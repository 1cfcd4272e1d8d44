#include "cli/progress_display.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr double kLogSeconds = 3;      // between lines that report another tenth
constexpr double kLogMaxSeconds = 30;  // a line comes at least this often
constexpr int64_t kMinColumns = 20;
constexpr int64_t kMaxBarWidth = 30;
constexpr int64_t kMinBarWidth = 10;
constexpr double kMebibyte = 1024.0 * 1024.0;

// Names from files are part of messages: escape sequences in them must not reach the terminal.
std::string OneLine(std::string_view text) {
  std::string line;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    const bool wide_control = c == 0xC2 && next >= 0x80 && next < 0xA0;  // U+0080..U+009F
    if (wide_control) ++i;
    line += wide_control || c < 0x20 || c == 0x7F ? '?' : static_cast<char>(c);
  }
  return line;
}

// "7 s", "2:05", "1:02:05".
std::string Clock(double seconds) {
  const int64_t whole = std::llround(std::clamp(seconds, 0.0, 1e9));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

double SteadySeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

ProgressDisplay::Options ProgressDisplay::StandardError() {
  Options options;
  const char* terminal = std::getenv("TERM");
  const bool dumb = terminal != nullptr && std::string_view(terminal) == "dumb";
  if (isatty(STDERR_FILENO) == 1 && !dumb) options.style = Style::kTerminal;
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    options.columns = size.ws_col;
  }
  options.now = &SteadySeconds;
  options.write = [](std::string_view bytes) {
    std::fwrite(bytes.data(), 1, bytes.size(), stderr);
    std::fflush(stderr);
  };
  return options;
}

ProgressDisplay::ProgressDisplay(Options options) : options_(std::move(options)) {
  NARROW_CHECK(options_.now && options_.write);
  options_.columns = std::max(options_.columns, kMinColumns);
}

ProgressDisplay::~ProgressDisplay() {
  try {
    if (bar_on_screen_) options_.write("\n");
  } catch (...) {  // nothing is left to tell
  }
}

void ProgressDisplay::Info(std::string_view message) { ShowLine(OneLine(message)); }

void ProgressDisplay::Warning(std::string_view message) {
  warnings_.emplace_back(message);
  ShowLine("warning: " + OneLine(message));
}

void ProgressDisplay::BeginPhase(std::string_view name, int64_t total, std::string_view unit) {
  NARROW_CHECK(!in_phase_);
  in_phase_ = true;
  phase_ = OneLine(name);
  const bool bytes = unit == "bytes";
  const bool layers = unit == kLayerParts;
  unit_ = bytes ? "MiB" : layers ? "layers" : OneLine(unit);
  unit_size_ = bytes ? kMebibyte : layers ? static_cast<double>(kPartsPerLayer) : 1;
  total_ = std::max<int64_t>(total, 0);
  done_ = skipped_ = 0;
  logged_tenths_ = 0;
  started_ = shown_ = options_.now();
  if (options_.style == Style::kTerminal) {
    Redraw();
  } else if (total_ > 0) {
    ShowLine(fmt::format("{}: {}", phase_, Amount(total_)));
  } else {
    ShowLine(phase_);
  }
}

void ProgressDisplay::Skip(int64_t done) {
  NARROW_CHECK(in_phase_ && done >= 0);
  done_ += done;
  skipped_ += done;
  if (total_ > 0) logged_tenths_ = done_ * 10 / total_;
}

void ProgressDisplay::Advance(int64_t done) {
  NARROW_CHECK(in_phase_ && done >= 0);
  done_ += done;
  const double since = options_.now() - shown_;
  if (options_.style == Style::kTerminal) {
    if (since >= kRedrawSeconds) Redraw();
    return;
  }
  const bool next_tenth = total_ > 0 && done_ < total_ && done_ * 10 / total_ > logged_tenths_;
  if ((next_tenth && since >= kLogSeconds) || since >= kLogMaxSeconds) Log();
}

void ProgressDisplay::EndPhase() {
  NARROW_CHECK(in_phase_);
  in_phase_ = false;
  const double elapsed = options_.now() - started_;
  const std::string rate = Rate(elapsed);
  ShowLine(fmt::format("{}: {} in {}{}{}", phase_, Amount(done_ - skipped_), Clock(elapsed),
                       rate.empty() ? "" : ", ", rate));
}

// A line that stays; a bar on the screen gives way to it and comes back below.
void ProgressDisplay::ShowLine(std::string_view line) {
  const std::string_view clear = bar_on_screen_ ? "\r\x1b[K" : "";
  bar_on_screen_ = false;
  options_.write(fmt::format("{}{}\n", clear, line));
  if (in_phase_ && options_.style == Style::kTerminal) Redraw();
}

void ProgressDisplay::Redraw() {
  shown_ = options_.now();
  bar_on_screen_ = true;
  options_.write(fmt::format("\r{}\x1b[K", TerminalLine(shown_ - started_)));
}

void ProgressDisplay::Log() {
  shown_ = options_.now();
  const double elapsed = shown_ - started_;
  std::string line = fmt::format("{}: ", phase_);
  if (total_ > 0) {
    logged_tenths_ = done_ * 10 / total_;
    line += fmt::format("{} %, ", std::min<int64_t>(done_ * 100 / total_, 100));
  }
  line += Amount(done_);
  for (const std::string& part : {Rate(elapsed), TimeLeft(elapsed)}) {
    if (!part.empty()) line += ", " + part;
  }
  ShowLine(line);
}

std::string ProgressDisplay::Amount(int64_t units) const {
  const double shown = static_cast<double>(units) / unit_size_;
  const bool whole = unit_ != "MiB" && shown == std::floor(shown);
  return fmt::format("{:.{}f} {}", shown, whole ? 0 : 1, unit_);
}

std::string ProgressDisplay::Rate(double elapsed) const {
  if (elapsed <= 0 || done_ == skipped_) return "";
  const double rate = static_cast<double>(done_ - skipped_) / elapsed / unit_size_;
  if (unit_ == "layers" && rate < 0.1) return fmt::format("{:.0f} s/layer", 1 / rate);
  const int decimals = rate < 10 ? 2 : rate < 100 ? 1 : 0;
  return fmt::format("{:.{}f} {}/s", rate, decimals, unit_);
}

std::string ProgressDisplay::TimeLeft(double elapsed) const {
  if (elapsed <= 0 || done_ == skipped_ || total_ == 0) return "";
  const auto left = static_cast<double>(std::max<int64_t>(total_ - done_, 0));
  return Clock(elapsed * left / static_cast<double>(done_ - skipped_)) + " left";
}

// "Calibration  45 % [#####>      ] 1423 tokens/s, 0:18 left", cut to the width of the terminal.
std::string ProgressDisplay::TerminalLine(double elapsed) const {
  const std::string rate = Rate(elapsed);
  const std::string left = TimeLeft(elapsed);
  std::string tail = rate.empty() || left.empty() ? rate + left : rate + ", " + left;
  const auto room = static_cast<std::size_t>(options_.columns - 1);  // the last column may wrap
  if (total_ == 0) {
    std::string line = fmt::format("{}  {}  {}", phase_, Amount(done_), tail);
    return line.substr(0, room);
  }
  const double share = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  std::string line = fmt::format("{} {:3.0f} %", phase_, std::floor(share * 100));
  const int64_t free =
      static_cast<int64_t>(room) - static_cast<int64_t>(line.size() + tail.size()) - 4;
  if (free >= kMinBarWidth) {
    const int64_t width = std::min(free, kMaxBarWidth);
    const auto filled = static_cast<int64_t>(share * static_cast<double>(width));
    line += fmt::format(" [{:#<{}}{:<{}}]", "", filled, "", width - filled);
  }
  line += " " + tail;
  return line.substr(0, room);
}

}  // namespace narrow
