// Quantizations of a tiny model and what their reports say.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {

class QualityJob : public testing::Test {
 protected:
  static constexpr int64_t kLayers = 3;
  static constexpr int64_t kGroups = 4 * kLayers;
  static constexpr int64_t kWindows = 3;

  void SetUp() override {
    WriteTinyModel(Path("model"), {.layers = kLayers,
                                   .attention_bias = TinyModel::Presence::kPresent,
                                   .mlp_bias = TinyModel::Presence::kPresent});
  }

  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }

  CommandResult Run(const std::string& output, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {
        "quantize",   "--model_dir",      Path("model"), "--output_dir",
        Path(output), "--num_calib_data", "12",          "--seq_len",
        "200",        "--eval_windows",   "3",           "--window_tokens",
        "300"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunNarrow(arguments);
  }

  // The report of a run that succeeds.
  Json Quantize(const std::string& output, const std::vector<std::string>& more = {}) const {
    const CommandResult result = Run(output, more);
    EXPECT_EQ(result.status, 0) << result.error;
    return ReadJsonFile(Path(output) + "/narrow-report.json");
  }

  ScratchDirectory scratch_;
};

}  // namespace narrow
