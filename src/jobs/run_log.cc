#include "jobs/run_log.h"

#include <cerrno>
#include <ctime>
#include <system_error>

#include "base/error.h"

namespace narrow {
namespace {

constexpr std::chrono::seconds kInterval{60};

std::string TimeOfDay() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  gmtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& path, ProgressSink& next)
    : file_(std::fopen(path.c_str(), "ae")), next_(next) {
  if (file_ == nullptr) {
    Fail(ErrorCode::kIo, "{}: cannot be opened: {}; start over with --resume never", path.string(),
         std::generic_category().message(errno));
  }
}

void RunLog::Line(std::string_view text) {
  // A log that cannot be written (full disk) must not stop the run.
  const std::string line = fmt::format("{} {}\n", TimeOfDay(), text);
  std::fwrite(line.data(), 1, line.size(), file_.get());
  std::fflush(file_.get());
}

void RunLog::Info(std::string_view message) {
  Line(message);
  next_.Info(message);
}

void RunLog::Warning(std::string_view message) {
  Line(fmt::format("warning: {}", message));
  next_.Warning(message);
}

void RunLog::BeginPhase(std::string_view name, int64_t total, std::string_view unit) {
  phase_ = name;
  total_ = total;
  done_ = 0;
  logged_ = std::chrono::steady_clock::now();
  unit_parts_ = unit == kLayerParts ? kPartsPerLayer : 1;
  Line(fmt::format("{}: {} {}", name, total / unit_parts_, unit == kLayerParts ? "layers" : unit));
  next_.BeginPhase(name, total, unit);
}

void RunLog::Skip(int64_t done) {
  done_ += done;
  next_.Skip(done);
}

void RunLog::Advance(int64_t done) {
  done_ += done;
  const auto now = std::chrono::steady_clock::now();
  if (now - logged_ >= kInterval) {
    logged_ = now;
    Line(fmt::format("{}: {} of {}", phase_,
                     static_cast<double>(done_) / static_cast<double>(unit_parts_),
                     total_ / unit_parts_));
  }
  next_.Advance(done);
}

void RunLog::EndPhase() {
  Line(fmt::format("{}: done", phase_));
  next_.EndPhase();
}

}  // namespace narrow
