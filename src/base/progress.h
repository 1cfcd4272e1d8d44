// Where the libraries report what they are doing. They never print; the program passes a sink that
// does (a bar on a terminal, plain lines in a log).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace narrow {

// The unit of a phase that goes from layer to layer, each of kPartsPerLayer units that take about
// the same time.
inline constexpr std::string_view kLayerParts = "layer-parts";
inline constexpr int64_t kPartsPerLayer = 1'000'000;

// Thread-compatible: called from one thread at a time.
class ProgressSink {
 public:
  virtual ~ProgressSink() = default;

  // A sentence for the user.
  virtual void Info(std::string_view message) = 0;
  // Something the user should act on; also kept for the report.
  virtual void Warning(std::string_view message) = 0;

  // Starts a phase of `total` units ("tokens", "bytes", kLayerParts); one phase runs at a time.
  virtual void BeginPhase(std::string_view name, int64_t total, std::string_view unit) = 0;
  // `done` units of the current phase were finished before it began, by an earlier run.
  virtual void Skip(int64_t done) = 0;
  // `done` more units of the current phase are finished.
  virtual void Advance(int64_t done) = 0;
  virtual void EndPhase() = 0;
};

// A sink that drops everything, for tests and callers that do not care.
class SilentProgress final : public ProgressSink {
 public:
  void Info(std::string_view) override {}
  void Warning(std::string_view) override {}
  void BeginPhase(std::string_view, int64_t, std::string_view) override {}
  void Skip(int64_t) override {}
  void Advance(int64_t) override {}
  void EndPhase() override {}
};

}  // namespace narrow
