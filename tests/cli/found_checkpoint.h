// A tiny checkpoint that a test spoils, and what the program says of it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/tiny_model.h"

namespace narrow {

class FoundCheckpoint : public testing::Test {
 protected:
  FoundCheckpoint() {
    std::string text;
    for (int i = 0; i < 40; ++i) text += fmt::format("Line {} of the text, {}.\n", i, i * i);
    WriteFile(scratch_.path() / "text.txt", text);
    WriteTinyModel(model(), {});
  }

  std::filesystem::path model() const { return scratch_.path() / "model"; }
  std::filesystem::path index_path() const { return model() / "model.safetensors.index.json"; }
  std::filesystem::path output() const { return scratch_.path() / "output"; }

  CommandResult Evaluate(const std::filesystem::path& directory) const {
    return RunNarrow({"evaluate", "--model_dir", directory.string(), "--eval_data",
                      (scratch_.path() / "text.txt").string(), "--window_tokens", "64",
                      "--eval_windows", "4", "--eval_window_order", "first", "--data_type",
                      "float32"});
  }
  std::string Perplexity(const std::filesystem::path& directory) const {
    const CommandResult result = Evaluate(directory);
    EXPECT_EQ(result.status, 0) << result.error;
    return result.output;
  }
  CommandResult Quantize(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"--skip_evaluation", "--num_calib_data", "4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunNarrow(QuantizeArguments(model().string(), output().string(), arguments));
  }
  CommandResult Inspect(const std::filesystem::path& directory) const {
    return RunNarrow({"inspect", directory.string()});
  }

  // Writes the weights again in `shards` files, after a change.
  void Rewrite(const std::function<void(std::vector<TinyTensor>&)>& change,
               int64_t shards = 1) const {
    std::vector<TinyTensor> tensors = TinyTensors({});
    change(tensors);
    std::filesystem::remove(model() / "model.safetensors");
    WriteWeights(model(), tensors, shards);
  }
  void Set(const char* key, const Json& value) const {
    Json config = ReadJsonFile((model() / "config.json").string());
    config[key] = value;
    WriteFile(model() / "config.json", config.dump());
  }
  void ChangeIndex(const std::function<void(Json&)>& change) const {
    Json index = ReadJsonFile(index_path().string());
    change(index);
    WriteFile(index_path(), index.dump());
  }

  const ScratchDirectory scratch_;
};

}  // namespace narrow
