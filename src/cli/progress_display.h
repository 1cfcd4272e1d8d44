// Shows a run's progress on standard error: one line that is redrawn on a terminal, plain lines in
// a log. Rate and time left count from the start of the phase.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"

namespace narrow {

// Thread-compatible.
class ProgressDisplay final : public ProgressSink {
 public:
  enum class Style { kTerminal, kLog };
  struct Options {
    Style style = Style::kLog;
    int64_t columns = 80;                         // of the terminal; at least 20 are used
    std::function<double()> now;                  // seconds of a clock that never goes back
    std::function<void(std::string_view)> write;  // shows bytes as they are, at once
  };
  // Standard error as it is: a terminal or not, its width, the steady clock.
  static Options StandardError();

  explicit ProgressDisplay(Options options);
  // Leaves an unfinished bar on a line of its own, so that an error message does not run into it.
  ~ProgressDisplay() override;
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  void Info(std::string_view message) override;
  void Warning(std::string_view message) override;
  // A total of 0 or less means that it is unknown: units are counted, without bar and time left.
  // The unit "bytes" is shown in MiB, kLayerParts in layers.
  void BeginPhase(std::string_view name, int64_t total, std::string_view unit) override;
  void Skip(int64_t done) override;
  void Advance(int64_t done) override;
  void EndPhase() override;

  // All warnings so far, as they were given.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void ShowLine(std::string_view line);
  void Redraw();
  void Log();
  std::string Amount(int64_t units) const;     // "45 tokens", "2.5 layers"
  std::string Rate(double elapsed) const;      // "12.3 tokens/s", "340 s/layer"
  std::string TimeLeft(double elapsed) const;  // "2:05 left"; empty when nobody can know
  std::string TerminalLine(double elapsed) const;

  Options options_;
  std::vector<std::string> warnings_;
  bool in_phase_ = false;
  bool bar_on_screen_ = false;
  std::string phase_;
  std::string unit_;      // as shown
  double unit_size_ = 1;  // of a unit as shown, in those that are counted
  int64_t total_ = 0;
  int64_t done_ = 0;
  int64_t skipped_ = 0;  // of these, before the phase began
  double started_ = 0;
  double shown_ = 0;           // when the bar was drawn or the last line logged
  int64_t logged_tenths_ = 0;  // tenths of the total that the last logged line had reached
};

}  // namespace narrow
