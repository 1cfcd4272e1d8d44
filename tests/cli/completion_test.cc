// Completions and the manual page say what the program's help says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "io/scratch_directory.h"
#include "tests/build_paths.h"
#include "tests/support/command.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAreArray;

using Words = std::vector<std::string>;

Words Lines(const std::string& text) {
  Words lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The first words of the lines of a help text after `heading`, up to an empty line.
Words Entries(const std::string& help, const std::string& heading) {
  Words entries;
  bool inside = false;
  for (const std::string& line : Lines(help)) {
    if (line == heading) {
      inside = true;
    } else if (line.empty()) {
      inside = false;
    } else if (inside && line.starts_with("  ") && line[2] != ' ') {
      entries.push_back(line.substr(2, line.find(' ', 2) - 2));
    }
  }
  return entries;
}

std::string Help(const Words& command) {
  Words arguments = command;
  arguments.emplace_back("--help");
  return RunNarrow(arguments).output;
}

// The long flags that help names, and --help by its long name.
Words FlagsOf(const std::string& command) {
  Words flags = Entries(Help({command}), "Options:");
  for (std::string& flag : flags) {
    if (flag == "-h,--help") flag = "--help";
  }
  return flags;
}

class Completion : public testing::Test {
 protected:
  Completion() : commands_(Entries(Help({}), "Subcommands:")) {}

  // The script for a shell, as a file.
  std::string Script(const std::string& shell) const {
    std::string path = (scratch_.path() / shell).string();
    WriteFile(path, RunNarrow({"completion", shell}).output);
    return path;
  }
  // What bash offers in place of the last word.
  Words Bash(const std::string& words) const {
    const CommandResult result =
        RunCommand({"/bin/bash", "-ec",
                    "source " + Script("bash") + "; COMP_WORDS=(narrow " + words +
                        "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _narrow; printf '%s\\n' "
                        "\"${COMPREPLY[@]}\""});
    EXPECT_EQ(result.status, 0) << result.error;
    Words offered = Lines(result.output);
    std::erase(offered, "");
    return offered;
  }
  // The specifications that the zsh script gives to _arguments.
  Words Zsh(const std::string& words) const {
    const CommandResult result =
        RunCommand({"/usr/bin/zsh", "-fec",
                    "_arguments() { print -lr -- \"$@\" }; _describe() { print -lr -- $commands }; "
                    "words=(narrow " +
                        words + "); CURRENT=$#words; source " + Script("zsh")});
    EXPECT_EQ(result.status, 0) << result.error;
    return Lines(result.output);
  }

  ScratchDirectory scratch_;
  const Words commands_;
};

TEST_F(Completion, OffersTheCommandsAndFlagsOfTheHelpInBash) {
  ASSERT_THAT(commands_, Contains("quantize"));
  Words first = commands_;
  first.insert(first.end(), {"--help", "--version"});
  EXPECT_THAT(Bash("''"), UnorderedElementsAreArray(first));
  for (const std::string& command : commands_) {
    EXPECT_THAT(Bash(command + " -"), UnorderedElementsAreArray(FlagsOf(command))) << command;
  }
}

TEST_F(Completion, OffersValuesAndFilesInBash) {
  EXPECT_THAT(Bash("quantize --output_d"), ElementsAre("--output_dir"));
  EXPECT_THAT(Bash("quantize --quant_algo ''"), ElementsAre("gptq", "none"));
  EXPECT_THAT(Bash("plan --multi_gpu --data_type b"), ElementsAre("bfloat16"));
  EXPECT_THAT(Bash("completion ''"), ElementsAre("bash", "zsh"));
  EXPECT_THAT(Bash("quantize --model_dir ''"), IsEmpty());  // bash completes files then
  EXPECT_THAT(Bash("quantize --tasks"), IsEmpty());         // a flag that is refused
}

TEST_F(Completion, SaysTheSameToZsh) {
  if (!std::filesystem::exists("/usr/bin/zsh")) GTEST_SKIP() << "needs /usr/bin/zsh";
  const Words first = Zsh("''");
  for (const std::string& command : commands_) {
    EXPECT_THAT(first, Contains(testing::StartsWith(command + ":"))) << command;
    Words flags;
    for (const std::string& specification : Zsh(command + " ''")) {
      if (specification.starts_with("--")) {
        flags.push_back(specification.substr(0, specification.find('[')));
      }
    }
    EXPECT_THAT(flags, UnorderedElementsAreArray(FlagsOf(command))) << command;
  }
  EXPECT_THAT(Zsh("quantize ''"), Contains(testing::EndsWith("]:value:(gptq none)")));
  EXPECT_THAT(Zsh("quantize ''"), Contains("--overwrite[Replace an existing output directory if "
                                           "narrow made all that is in it]"));
}

TEST_F(Completion, RefusesOtherShells) {
  EXPECT_EQ(RunNarrow({"completion", "fish"}).status, 2);
  EXPECT_EQ(RunNarrow({"completion"}).status, 2);
}

TEST_F(Completion, ManualHasEveryCommandAndFlag) {
  const CommandResult made =
      RunCommand({"/usr/bin/env", "python3", NARROW_SOURCE_DIR "/tools/make_man_page.py",
                  NARROW_BINARY_DIR "/narrow"});
  ASSERT_EQ(made.status, 0) << made.error;
  std::string plain;
  for (const char c : made.output) {
    if (c != '\\') plain += c;
  }
  std::size_t at = plain.find(".SH COMMANDS");
  for (const std::string& command : commands_) {
    const std::size_t begin = plain.find("\n.SS narrow " + command + " ", at);
    ASSERT_NE(begin, std::string::npos) << command;
    at = begin + 1;
    const std::string section = plain.substr(at, plain.find("\n.S", at) - at);
    for (const std::string& flag : FlagsOf(command)) {
      if (flag == "--help") continue;
      EXPECT_THAT(section, HasSubstr(".TP\nfB" + flag + "fR")) << command;
    }
    for (const std::string& name : Entries(Help({command}), "Positionals:")) {
      EXPECT_THAT(section, HasSubstr(".TP\nfB" + name + "fR"));
    }
  }
  EXPECT_THAT(made.output, Not(HasSubstr("REQUIRED")));
  EXPECT_THAT(made.output, HasSubstr("\n.SH EXIT STATUS\n0 done, 1 internal error, 2 wrong flag"));
}

}  // namespace
}  // namespace narrow
