#include "io/output_marker.h"

#include <gtest/gtest.h>

#include <string>

#include "io/file.h"
#include "io/scratch_directory.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

OutputMarker Made(const fs::path& directory) {
  WriteOutputMarker(directory, {"narrow 0", "quantize", "fitted", "7", {}});
  return *ReadOutputMarker(directory);
}

TEST(OutputMarker, ListsWhatIsThere) {
  const ScratchDirectory scratch;
  scratch.Put("config.json", "{}");
  scratch.Put("empty", "");
  fs::create_directory(scratch.path() / "sub");
  scratch.Put("sub/template", "x");
  EXPECT_FALSE(ReadOutputMarker(scratch.path()));
  const OutputMarker marker = Made(scratch.path());
  EXPECT_EQ(marker.program, "narrow 0");
  EXPECT_EQ(marker.command, "quantize");
  EXPECT_EQ(marker.head_basis, "fitted");
  EXPECT_EQ(marker.job, "7");
  ASSERT_EQ(marker.files.size(), 3);
  EXPECT_EQ(marker.files.at("config.json").bytes, 2);
  // FNV-1a's published values of "" and "a" with 64 bits are cbf29ce484222325 and af63dc4c8601ec8c.
  EXPECT_EQ(marker.files.at("empty").hash, "cbf29ce484222325");
  scratch.Put("empty", "a");
  EXPECT_EQ(Made(scratch.path()).files.at("empty").hash, "af63dc4c8601ec8c");
  EXPECT_TRUE(marker.files.contains("sub/template"));
  EXPECT_EQ(FindForeign(scratch.path(), Made(scratch.path())), std::nullopt);
}

TEST(OutputMarker, FindsWhatIsForeignOrChanged) {
  const auto found = [](auto change) {
    const ScratchDirectory scratch;
    scratch.Put("config.json", "{}");
    fs::create_directory(scratch.path() / "sub");
    scratch.Put("sub/template", "x");
    const OutputMarker marker = Made(scratch.path());
    change(scratch);
    return FindForeign(scratch.path(), marker).value_or("nothing");
  };
  EXPECT_EQ(found([](const auto&) {}), "nothing");
  EXPECT_EQ(found([](const auto& s) { fs::remove(s.path() / "config.json"); }), "nothing");
  EXPECT_NE(found([](const auto& s) { s.Put("notes.txt", ""); }).find("notes.txt"),
            std::string::npos);
  EXPECT_NE(found([](const auto& s) { s.Put("sub/n", ""); }).find("sub/n"), std::string::npos);
  EXPECT_NE(found([](const auto& s) { s.Put(".hidden", ""); }).find(".hidden"), std::string::npos);
  EXPECT_NE(found([](const auto& s) { fs::create_directory(s.path() / "d"); }).find("\"d\""),
            std::string::npos);
  EXPECT_NE(found([](const auto& s) { s.Put("config.json", "[]"); }).find("was changed"),
            std::string::npos);
  EXPECT_NE(found([](const auto& s) {
              fs::remove(s.path() / "config.json");
              fs::create_symlink("sub/template", s.path() / "config.json");
            }).find("config.json"),
            std::string::npos);
}

// Weights of one shape differ everywhere when they are trained; nothing of them is read whole.
TEST(OutputMarker, SamplesLargeFiles) {
  const ScratchDirectory scratch;
  constexpr int64_t kBytes = (int64_t{64} << 20) + 12345;
  fs::resize_file(scratch.Put("weights", ""), kBytes);
  const OutputMarker marker = Made(scratch.path());
  for (const int64_t offset : {int64_t{0}, kBytes / 63 * 31, kBytes - 1}) {
    {
      const std::string block(1, 'x');
      OutputFile file(scratch.path() / "weights", OutputFile::Contents::kKeep);
      file.WriteAt(offset, std::as_bytes(std::span(block)));
    }
    EXPECT_TRUE(FindForeign(scratch.path(), marker)) << offset;
    fs::resize_file(scratch.path() / "weights", 0);
    fs::resize_file(scratch.path() / "weights", kBytes);
    EXPECT_FALSE(FindForeign(scratch.path(), marker)) << offset;
  }
}

TEST(OutputMarker, RemovesWhatItListsAndNothingElse) {
  const ScratchDirectory scratch;
  const fs::path directory = scratch.path() / "out";
  fs::create_directories(directory / "sub" / "deep");
  WriteFileAtomically(directory / "config.json", "{}");
  WriteFileAtomically(directory / "sub" / "deep" / "f", "x");
  const OutputMarker marker = Made(directory);
  WriteFileAtomically(directory / "sub" / "notes.txt", "precious");
  ExpectError(ErrorCode::kIo, "sub", [&] { RemoveMarked(directory, marker); });
  EXPECT_EQ(ReadWholeFile(directory / "sub" / "notes.txt", 100), "precious");
  fs::remove(directory / "sub" / "notes.txt");
  RemoveMarked(directory, marker);
  EXPECT_EQ(scratch.Count(), 0);
}

TEST(OutputMarker, RefusesWhatIsNone) {
  for (
      const char* text :
      {"", "{", "[]", "{}", R"({"format": 2})",
       R"({"format": 1, "program": "n", "command": "c", "job": "1"})",
       R"({"format": 1, "program": "n", "command": "c", "job": "1", "files": {"../f": {"bytes": 1, "fnv1a": ""}}})",
       R"({"format": 1, "program": "n", "command": "c", "job": "1", "files": {"/f": {"bytes": 1, "fnv1a": ""}}})",
       R"({"format": 1, "program": "n", "command": "c", "job": "1", "files": {"a/../../f": {"bytes": 1, "fnv1a": ""}}})",
       R"({"format": 1, "program": "n", "command": "c", "job": "1", "files": {"f": 1}})"}) {
    const ScratchDirectory scratch;
    scratch.Put(kMarkerName, text);
    ExpectError(ErrorCode::kCorruptInput, kMarkerName, [&] { ReadOutputMarker(scratch.path()); });
  }
}

}  // namespace
}  // namespace narrow
