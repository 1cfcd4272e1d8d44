#include "io/paths.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <string>

#include "io/scratch_directory.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

class CheckApartTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(Path("model/sub"));
    scratch_.Put("model/config.json", "{}");
    scratch_.Put("text.txt", "x");
  }
  fs::path Path(const std::string& name) const { return scratch_.path() / name; }

  void ExpectRefused(const fs::path& written, const fs::path& read, std::string_view relation) {
    SCOPED_TRACE(fmt::format("{} and {}", written.string(), read.string()));
    ExpectError(ErrorCode::kInvalidArgument, relation, [&] { Check(written, read); });
    ExpectError(ErrorCode::kInvalidArgument, "--model_dir", [&] { Check(written, read); });
  }
  static void Check(const fs::path& written, const fs::path& read) {
    CheckApart(std::vector<NamedPath>{{"--output_dir", written}},
               std::vector<NamedPath>{{"--model_dir", read}});
  }

  ScratchDirectory scratch_;
};

TEST_F(CheckApartTest, ByPath) {
  ExpectRefused(Path("model"), Path("model"), " is ");
  ExpectRefused(Path("model/"), Path("./sub/../model"), " is ");
  ExpectRefused(Path("model/new"), Path("model"), "lies in");
  ExpectRefused(Path("model/sub/new/er"), Path("model"), "lies in");
  ExpectRefused(scratch_.path(), Path("model"), "holds");
  ExpectRefused("/", Path("model"), "holds");
  ExpectRefused(Path("text.txt"), Path("text.txt"), " is ");
  ExpectRefused(Path("model/config.json"), Path("model"), "lies in");
  ExpectRefused(Path("absent/new"), Path("absent"), "lies in");
  Check(Path("model2"), Path("model"));  // the beginning of a name is no directory
  Check(Path("mod"), Path("model"));
  Check(Path("new"), Path("text.txt"));
}

TEST_F(CheckApartTest, ThroughLinks) {
  fs::create_directory_symlink(Path("model"), Path("link"));
  fs::create_directory_symlink(Path("link"), Path("link2"));
  fs::create_symlink(Path("later/out"), Path("dangling"));
  ExpectRefused(Path("link2"), Path("model"), " is ");
  ExpectRefused(Path("link/new"), Path("model"), "lies in");
  ExpectRefused(Path("model/new"), Path("link2"), "lies in");
  ExpectRefused(Path("dangling"), Path("later"), "lies in");
  ExpectRefused(Path("model/sub/../../link/x"), Path("model"), "lies in");
  fs::create_symlink("circle", Path("circle"));
  ExpectError(ErrorCode::kIo, "circle", [&] { Check(Path("circle"), Path("model")); });
}

TEST_F(CheckApartTest, PipesHaveNoPlace) {
  int ends[2] = {-1, -1};
  ASSERT_EQ(::pipe(ends), 0);
  for (const int end : ends) {
    const fs::path pipe = fmt::format("/dev/fd/{}", end);
    Check(pipe, Path("model"));
    ExpectRefused(pipe, pipe, " is ");
    ::close(end);
  }
  Check("/dev/null", Path("model"));
}

// A model directory made of links: what they lead to is read.
TEST_F(CheckApartTest, WhatTheModelsLinksLeadTo) {
  fs::create_directories(Path("store/deep"));
  scratch_.Put("store/weights", "x");
  scratch_.Put("store/deep/template", "x");
  fs::create_symlink(Path("store/weights"), Path("model/model.safetensors"));
  fs::create_directory_symlink(Path("store/deep"), Path("model/templates"));
  fs::create_directory_symlink(Path("store/deep"), Path("tidy"));
  ExpectRefused(Path("store"), Path("model"), "holds a file of");
  ExpectRefused(Path("store/weights"), Path("model"), "is a file of");
  ExpectRefused(Path("tidy"), Path("model"), "is a file of");
  Check(Path("store/new"), Path("model"));
  fs::create_directory_symlink(scratch_.path(), Path("model/up"));
  Check(Path("new"), Path("model"));  // beside the model, whatever leads there
}

TEST_F(CheckApartTest, AsTheSameFile) {
  fs::create_hard_link(Path("text.txt"), Path("twin.txt"));
  fs::create_hard_link(Path("model/config.json"), Path("twin.json"));
  fs::create_directory(Path("out"));
  fs::create_hard_link(Path("model/config.json"), Path("out/config.json"));
  ExpectRefused(Path("twin.txt"), Path("text.txt"), " is ");
  ExpectRefused(Path("twin.json"), Path("model"), "is a file of");
  ExpectRefused(Path("out"), Path("model"), "holds a file of");
}

TEST_F(CheckApartTest, AsTheSameDirectory) {
  fs::create_directory(Path("mounted"));
  if (::mount(Path("model").c_str(), Path("mounted").c_str(), nullptr, MS_BIND, nullptr) != 0) {
    GTEST_SKIP() << "nothing can be mounted here: " << std::strerror(errno);
  }
  ExpectRefused(Path("mounted"), Path("model"), " is ");
  ExpectRefused(Path("mounted/new"), Path("model"), "lies in");
  ExpectRefused(Path("model/sub/new"), Path("mounted"), "lies in");
  EXPECT_EQ(::umount(Path("mounted").c_str()), 0);
}

TEST(MakeDirectories, MakesAndUnmakes) {
  const ScratchDirectory scratch;
  const fs::path deep = scratch.path() / "a" / "b" / "c";
  EXPECT_EQ(MakeDirectories(deep), scratch.path() / "a");
  EXPECT_TRUE(MakeDirectories(deep).empty());
  RemoveEmptyDirectories(deep, {});
  EXPECT_TRUE(fs::exists(deep));
  scratch.Put("a/f", "x");
  RemoveEmptyDirectories(deep, scratch.path() / "a");
  EXPECT_TRUE(fs::exists(scratch.path() / "a" / "f"));
  EXPECT_FALSE(fs::exists(scratch.path() / "a" / "b"));
  ExpectError(ErrorCode::kIo, "Not a directory",
              [&] { MakeDirectories(scratch.path() / "a" / "f" / "g"); });
}

}  // namespace
}  // namespace narrow
