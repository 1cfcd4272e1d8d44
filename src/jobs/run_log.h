// The progress of a run, also in a file that survives it.
#pragma once

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/progress.h"

namespace narrow {

// Passes everything on and appends it, with the time of day, to a log that is flushed line by line:
// a killed run can be read afterwards. Long phases leave a line a minute. Thread-compatible.
class RunLog final : public ProgressSink {
 public:
  // Appends to `path`. Throws: kIo when it cannot be opened; `next` outlives the object.
  RunLog(const std::filesystem::path& path, ProgressSink& next);

  void Info(std::string_view message) override;
  void Warning(std::string_view message) override;
  void BeginPhase(std::string_view name, int64_t total, std::string_view unit) override;
  void Skip(int64_t done) override;
  void Advance(int64_t done) override;
  void EndPhase() override;
  // A line for the log alone.
  void Line(std::string_view text);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
  ProgressSink& next_;
  std::string phase_;
  int64_t total_ = 0;
  int64_t unit_parts_ = 1;  // of what `total_` counts, in a unit to show
  int64_t done_ = 0;
  std::chrono::steady_clock::time_point logged_;
};

}  // namespace narrow
