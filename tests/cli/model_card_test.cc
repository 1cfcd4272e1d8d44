// The card of a job as the Hugging Face hub and its package read it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "io/scratch_directory.h"
#include "tests/build_paths.h"
#include "tests/support/command.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::Not;

// Runs python3 with the packages of tools/prepare_hub_packages.sh, if they are there.
CommandResult RunPython(std::vector<std::string> arguments) {
  CommandOptions options;
  const char* packages = std::getenv("NARROW_HUB_PACKAGES");
  if (packages != nullptr) options.environment["PYTHONPATH"] = packages;
  arguments.insert(arguments.begin(), "/usr/bin/python3");
  return RunCommand(arguments, options);
}

class ModelCard : public testing::Test {
 protected:
  // Quantizes a tiny model that lies in `folder` with this README.md.
  void Quantize(const std::string& folder, const std::string& readme,
                const std::vector<std::string>& more) {
    const std::string model = (scratch_.path() / folder).string();
    WriteTinyModel(model, {});
    if (!readme.empty()) WriteFile(model + "/README.md", readme);
    const CommandResult result = RunNarrow(QuantizeArguments(model, output(), more));
    ASSERT_EQ(result.status, 0) << result.error;
  }
  std::string output() const { return (scratch_.path() / "Tiny-FP8-KV").string(); }

  // What tools/check_model_card.py says of the output.
  std::string Check() const {
    const CommandResult result =
        RunPython({NARROW_SOURCE_DIR "/tools/check_model_card.py", output()});
    EXPECT_EQ(result.status, 0) << result.error;
    return result.output;
  }
  std::string Inspect() const {
    const CommandResult result = RunNarrow({"inspect", "--for_upload", output()});
    EXPECT_EQ(result.status, 0) << result.output << result.error;
    return result.output;
  }

  ScratchDirectory scratch_;
};

TEST_F(ModelCard, IsReadByTheHubsOwnClasses) {
  if (RunPython({"-c", "import huggingface_hub"}).status != 0) {
    GTEST_SKIP() << "needs Python's huggingface_hub (tools/prepare_hub_packages.sh)";
  }
  Quantize("models--org--Tiny/snapshots/0e9e39f", "---\nlicense: apache-2.0\n---\n",
           {"--eval_windows", "2", "--window_tokens", "64"});
  EXPECT_EQ(Check(),
            "base_model: \"org/Tiny\"\nbase_model_relation: \"quantized\"\n"
            "license: \"apache-2.0\"\nlicense_name: null\nlicense_link: null\nresults: 3\n");
  std::filesystem::remove_all(output());
  Quantize("Tiny",
           "---\nbase_model: org/Base\nlicense: other\nlicense_name: \"a: b\"\n"
           "license_link: LICENSE\n---\n",
           {"--skip_evaluation"});
  EXPECT_EQ(Check(),
            "base_model: [\"org/Base\"]\nbase_model_relation: null\n"
            "license: \"other\"\nlicense_name: \"a: b\"\nlicense_link: \"LICENSE\"\nresults: 0\n");
}

TEST_F(ModelCard, IsCompleteForAnUploadWhereTheSourceIs) {
  Quantize("models--org--Tiny/snapshots/0e9e39f", "---\nlicense: apache-2.0\n---\n",
           {"--eval_windows", "1", "--window_tokens", "64"});
  EXPECT_THAT(Inspect(), HasSubstr("\nnote: nothing is missing for an upload\n"));
  WriteFile(output() + "/.env", "TOKEN=1");
  EXPECT_THAT(Inspect(), HasSubstr("for an upload: \".env\" is nothing that loaders read"));
}

TEST_F(ModelCard, LacksWhatTheSourceDoesNotSay) {
  Quantize("Tiny", "", {"--skip_evaluation"});
  const std::string text = Inspect();
  for (const char* missing : {"no base_model", "no license", "no results of an evaluation"}) {
    EXPECT_THAT(text, HasSubstr(missing));
  }
  EXPECT_THAT(text, Not(HasSubstr("nothing is missing")));
  EXPECT_THAT(RunNarrow({"inspect", output()}).output, HasSubstr("no problems found"));
  std::filesystem::remove(output() + "/README.md");
  const CommandResult result = RunNarrow({"inspect", "--for_upload", output()});
  EXPECT_EQ(result.status, 4);
  EXPECT_THAT(result.output, HasSubstr("error: for an upload: there is no README.md"));
}

}  // namespace
}  // namespace narrow
