#include "text/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"
#include "io/scratch_directory.h"
#include "tests/build_paths.h"
#include "text/builtin_corpus.h"
#include "text/compressed.h"

namespace narrow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The environment without any place to look in; put back at the end.
class DatasetTest : public ::testing::Test {
 protected:
  DatasetTest() {
    for (const char* name : kNames) {
      const char* value = ::getenv(name);
      saved_.push_back(value == nullptr ? std::nullopt : std::optional<std::string>(value));
      ::unsetenv(name);
    }
  }
  ~DatasetTest() override {
    for (std::size_t i = 0; i < saved_.size(); ++i) {
      saved_[i] ? ::setenv(kNames[i], saved_[i]->c_str(), 1) : ::unsetenv(kNames[i]);
    }
  }

  static constexpr const char* kNames[] = {"NARROW_DATA_DIR", "XDG_CACHE_HOME", "HOME"};
  std::vector<std::optional<std::string>> saved_;
  ScratchDirectory scratch_;
};

std::string TextOf(const Dataset& dataset) { return JoinDocuments(dataset); }

Dataset Load(const std::filesystem::path& source, DatasetUse use = DatasetUse::kCalibration,
             int64_t max_documents = 0) {
  return LoadDataset({.source = source.string(), .data_directory = {}}, use, max_documents);
}

DatasetRequest Named(std::string name, const ScratchDirectory& directory) {
  return {.source = std::move(name), .data_directory = directory.path().string()};
}

// FNV-1a, 64 bits; documents end with a zero byte when there are several.
uint64_t Hash(std::string_view text, uint64_t hash = 14695981039346656037u) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

std::filesystem::path SharedText(std::string_view name) {
  const char* shared = ::getenv("NARROW_SHARED_DIR");
  const std::filesystem::path root = shared != nullptr ? shared : NARROW_SOURCE_DIR "/../shared";
  return root / "data" / "text" / name;
}

TEST(JoinWikiTextRows, FollowsTheRowsOfTheDataSet) {
  EXPECT_EQ(JoinWikiTextRows(""), "");
  EXPECT_EQ(JoinWikiTextRows(" \n"), "");
  EXPECT_EQ(JoinWikiTextRows(" \n = A = \n \n x \n"), "\n\n = A = \n\n\n\n\n x \n");
  EXPECT_EQ(JoinWikiTextRows("\n  \na\n"), "\n\n\n  \n\n\na\n");  // only one space is empty
  EXPECT_EQ(JoinWikiTextRows("a\r\nb\n"), "a\r\n\n\nb\n");
  EXPECT_EQ(JoinWikiTextRows("a\nb"), "a\n\n\nb");  // an unfinished row is a row
}

TEST(JoinDocumentsTest, PutsABlankLineBetween) {
  EXPECT_EQ(JoinDocuments({.name = "", .origin = "", .documents = {"a", "b", "c"}, .notice = {}}),
            "a\n\nb\n\nc");
  EXPECT_EQ(JoinDocuments({.name = "", .origin = "", .documents = {"a"}, .notice = {}}), "a");
}

TEST_F(DatasetTest, PlainTextIsOneDocumentAsItIs) {
  const auto path = scratch_.Put("my notes.txt", "a\n \nb\r\n");
  for (const DatasetUse use : {DatasetUse::kCalibration, DatasetUse::kEvaluation}) {
    const Dataset dataset = Load(path, use);
    EXPECT_THAT(dataset.documents, ElementsAre("a\n \nb\r\n"));
    EXPECT_EQ(dataset.name, "my notes.txt");
    EXPECT_EQ(dataset.origin, path.string());
    EXPECT_FALSE(dataset.notice.has_value());
  }
}

TEST_F(DatasetTest, RawRowsAreJoinedForEvaluationOnly) {
  const auto path = scratch_.Put("rows.raw", " \n = A = \n");
  EXPECT_THAT(Load(path, DatasetUse::kEvaluation).documents, ElementsAre("\n\n = A = \n"));
  EXPECT_THAT(Load(path, DatasetUse::kCalibration).documents, ElementsAre(" \n = A = \n"));
}

TEST_F(DatasetTest, JsonLinesPlainAndCompressedGiveTheSame) {
  std::string lines;
  for (int i = 0; i < 3000; ++i) {
    lines += "{\"text\": \"" + std::string(static_cast<std::size_t>(i % 997), 'x') +
             std::to_string(i) + "\"}\n";
  }
  const auto plain = Load(scratch_.Put("a.jsonl", lines)).documents;
  ASSERT_EQ(plain.size(), 3000u);
  EXPECT_EQ(plain[2], "xx2");
  const auto zst = scratch_.Put("a.jsonl.zst", Compressed(lines));
  EXPECT_EQ(Load(zst).documents, plain);
  EXPECT_EQ(Load(zst, DatasetUse::kCalibration, 2500).documents.size(), 2500u);
  EXPECT_THAT(Load(zst, DatasetUse::kCalibration, 2).documents, ElementsAre("0", "x1"));
}

// Rows of the Hugging Face data set as JSON lines: empty ones are part of the text.
TEST_F(DatasetTest, EmptyDocumentsCountForEvaluationAndNotForCalibration) {
  const auto path = scratch_.Put(
      "rows.jsonl",
      "{\"text\": \"\"}\n{\"text\": \" = A = \\n\"}\n{\"text\": \"\"}\n{\"text\": \"b\"}\n");
  const auto raw = scratch_.Put("rows.raw", " \n = A = \n \nb");
  EXPECT_EQ(TextOf(Load(path, DatasetUse::kEvaluation)),
            TextOf(Load(raw, DatasetUse::kEvaluation)));
  const Dataset calibration = Load(path, DatasetUse::kCalibration, 2);
  EXPECT_THAT(calibration.documents, ElementsAre(" = A = \n", "b"));
  EXPECT_EQ(calibration.empty_documents, 2);
}

TEST_F(DatasetTest, DocumentsMayBeTokenIds) {
  const auto path = scratch_.Put("ids.jsonl", "[]\n{\"tokens\": [3, 4]}\n");
  const Dataset dataset = Load(path);
  EXPECT_THAT(dataset.documents, testing::IsEmpty());
  ASSERT_EQ(dataset.tokens.size(), 1u);
  EXPECT_THAT(dataset.tokens[0].ids, ElementsAre(3, 4));
  EXPECT_EQ(dataset.tokens[0].line, 2);
  EXPECT_EQ(dataset.empty_documents, 1);
  EXPECT_EQ(Load(path, DatasetUse::kEvaluation).tokens.size(), 2u);
}

TEST_F(DatasetTest, ReadingStopsAtTheLastDocumentWanted) {
  const std::string good = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
  const auto path = scratch_.Put("a.jsonl", good + "garbage\n");
  EXPECT_THAT(Load(path, DatasetUse::kCalibration, 2).documents, ElementsAre("one", "two"));
  ExpectError(ErrorCode::kCorruptInput, "a.jsonl, line 3: not valid JSON",
              [&] { Load(path, DatasetUse::kCalibration, 3); });
}

TEST_F(DatasetTest, BadFilesAreRefused) {
  ExpectError(ErrorCode::kCorruptInput, "latin.txt, line 2: not valid UTF-8 at byte offset 7",
              [&] { Load(scratch_.Put("latin.txt", "one\ncaf\xE9\n")); });
  ExpectError(ErrorCode::kCorruptInput, "rows.raw, line 1: not valid UTF-8 at byte offset 0",
              [&] { Load(scratch_.Put("rows.raw", "\xFF"), DatasetUse::kEvaluation); });
  for (const char* name : {"a.txt", "a.raw", "a.jsonl", "a.jsonl.zst"}) {
    ExpectError(ErrorCode::kCorruptInput, std::string(name) + ": there is no text in it",
                [&] { Load(scratch_.Put(name, "")); });
  }
  ExpectError(ErrorCode::kCorruptInput, "there is no text in it; all 2 documents are empty",
              [&] { Load(scratch_.Put("b.jsonl", "{\"text\": \"\"}\n\n{\"text\": \" \"}\n")); });
  ExpectError(ErrorCode::kCorruptInput, "there is no text in it",
              [&] { Load(scratch_.Put("b.txt", " \n\n"), DatasetUse::kEvaluation); });
  ExpectError(ErrorCode::kCorruptInput, "there is no text in it",
              [&] { Load(scratch_.Put("b.raw", " \n"), DatasetUse::kEvaluation); });
  const std::string frame = Compressed("{\"text\": \"one\"}\n");
  ExpectError(ErrorCode::kCorruptInput, "cut.jsonl.zst: the Zstandard data ends in the middle",
              [&] { Load(scratch_.Put("cut.jsonl.zst", frame.substr(0, frame.size() - 1))); });
  ExpectError(ErrorCode::kCorruptInput, "plain.jsonl.zst: not Zstandard data",
              [&] { Load(scratch_.Put("plain.jsonl.zst", "{\"text\": \"one\"}\n")); });
  ExpectError(ErrorCode::kUnsupported, "a.csv: unknown type of text file",
              [&] { Load(scratch_.Put("a.csv", "text\none\n")); });
  std::filesystem::create_directory(scratch_.path() / "dir.txt");
  ExpectError(ErrorCode::kIo, "a directory", [&] { Load(scratch_.path() / "dir.txt"); });
}

TEST_F(DatasetTest, AnUnknownNameIsNotFound) {
  ExpectError(ErrorCode::kNotFound,
              "--dataset \"pileva1\": there is no such file, and the names known are pileval, "
              "wikitext2, builtin",
              [&] { Load("pileva1"); });
  ExpectError(ErrorCode::kNotFound, "--eval_data \"",
              [&] { Load(scratch_.path() / "absent.txt", DatasetUse::kEvaluation); });
}

TEST_F(DatasetTest, NamedSetsTakeTheFirstFileThere) {
  scratch_.Put("pile_sample.jsonl", "{\"text\": \"sample\"}\n");
  const auto load = [&] {
    return LoadDataset(Named("pileval", scratch_), DatasetUse::kCalibration, 0);
  };
  EXPECT_THAT(load().documents, ElementsAre("sample"));
  scratch_.Put("val.jsonl", "{\"text\": \"plain\"}\n");
  EXPECT_THAT(load().documents, ElementsAre("plain"));
  const auto path = scratch_.Put("val.jsonl.zst", Compressed("{\"text\": \"compressed\"}\n"));
  EXPECT_THAT(load().documents, ElementsAre("compressed"));
  EXPECT_EQ(load().name, "pileval");
  EXPECT_EQ(load().origin, path.string());
}

TEST_F(DatasetTest, ANameNotFoundSaysWhereItWasLookedForAndWhereToGetIt) {
  const std::string directory = scratch_.path().string();
  ExpectError(ErrorCode::kNotFound,
              "--dataset pileval: there is no val.jsonl.zst, val.jsonl or pile_sample.jsonl in " +
                  directory +
                  " (--data_dir); the Hugging Face data set mit-han-lab/pile-val-backup",
              [&] { LoadDataset(Named("pileval", scratch_), DatasetUse::kCalibration, 0); });
  ExpectError(ErrorCode::kNotFound, "there is no wiki.test.raw in " + directory,
              [&] { LoadDataset(Named("wikitext2", scratch_), DatasetUse::kEvaluation, 0); });
  ExpectError(ErrorCode::kNotFound, "$NARROW_DATA_DIR, $XDG_CACHE_HOME and $HOME are not set",
              [&] { Load("wikitext2", DatasetUse::kEvaluation); });
  for (const std::optional<std::string>& source :
       {std::optional<std::string>(), std::optional<std::string>("pileval")}) {
    ExpectError(ErrorCode::kNotFound, "/absent: there is no such directory", [&] {
      LoadDataset({.source = source, .data_directory = directory + "/absent"},
                  DatasetUse::kCalibration, 0);
    });
  }
}

TEST_F(DatasetTest, TheDirectoryIsTheFirstThatIsSet) {
  const ScratchDirectory home;
  const auto put = [](const std::filesystem::path& directory, const std::string& text) {
    std::filesystem::create_directories(directory);
    std::ofstream(directory / "wiki.test.raw") << text << "\n";
    return directory.string();
  };
  const auto load = [](std::optional<std::string> flag = {}) {
    return TextOf(LoadDataset({.source = "wikitext2", .data_directory = std::move(flag)},
                              DatasetUse::kEvaluation, 0));
  };
  put(home.path() / ".cache" / "narrow", "home");
  put(home.path() / "xdg" / "narrow", "xdg");
  const std::string variable = put(home.path() / "variable", "variable");
  const std::string flag = put(home.path() / "flag", "flag");
  ::setenv("HOME", home.path().c_str(), 1);
  EXPECT_EQ(load(), "home\n");
  ::setenv("XDG_CACHE_HOME", "relative/is/not/allowed", 1);
  ::setenv("NARROW_DATA_DIR", "", 1);
  EXPECT_EQ(load(), "home\n");
  ::setenv("XDG_CACHE_HOME", (home.path() / "xdg").c_str(), 1);
  EXPECT_EQ(load(), "xdg\n");
  ::setenv("NARROW_DATA_DIR", variable.c_str(), 1);
  EXPECT_EQ(load(), "variable\n");
  EXPECT_EQ(load(flag), "flag\n");
}

TEST_F(DatasetTest, TheDefaultIsTheNamedSetElseBuiltinWithANotice) {
  ::setenv("NARROW_DATA_DIR", scratch_.path().c_str(), 1);
  const Dataset builtin = LoadDataset({}, DatasetUse::kCalibration, 0);
  EXPECT_EQ(builtin.name, "builtin");
  EXPECT_EQ(builtin.origin, "built into narrow");
  ASSERT_TRUE(builtin.notice.has_value());
  EXPECT_THAT(*builtin.notice, HasSubstr("pileval is not there (no val.jsonl.zst"));
  EXPECT_THAT(*builtin.notice, HasSubstr(scratch_.path().string() + " ($NARROW_DATA_DIR)"));
  const Dataset evaluation = LoadDataset({}, DatasetUse::kEvaluation, 0);
  EXPECT_EQ(evaluation.name, "builtin");
  EXPECT_THAT(evaluation.notice.value_or(""), HasSubstr("wikitext2 is not there"));

  scratch_.Put("val.jsonl", "{\"text\": \"pile\"}\n");
  scratch_.Put("wiki.test.raw", "wiki\n");
  const Dataset pile = LoadDataset({}, DatasetUse::kCalibration, 0);
  EXPECT_EQ(pile.name, "pileval");
  EXPECT_FALSE(pile.notice.has_value());
  EXPECT_EQ(LoadDataset({}, DatasetUse::kEvaluation, 0).name, "wikitext2");
}

TEST_F(DatasetTest, BuiltinHasAPartForEachUse) {
  const Dataset calibration = Load("builtin", DatasetUse::kCalibration);
  const Dataset evaluation = Load("builtin", DatasetUse::kEvaluation);
  EXPECT_FALSE(calibration.notice.has_value());
  EXPECT_GE(calibration.documents.size(), 24u);
  EXPECT_GE(evaluation.documents.size(), 2u);
  EXPECT_EQ(calibration.documents[0], BuiltinCalibrationDocuments()[0]);
  EXPECT_EQ(evaluation.documents[0], BuiltinEvaluationDocuments()[0]);
  EXPECT_EQ(Load("builtin", DatasetUse::kCalibration, 5).documents.size(), 5u);
  EXPECT_EQ(Load("builtin", DatasetUse::kCalibration, 9999).documents, calibration.documents);
}

// Length and hash of the string that transformers' side of the comparison tokenizes: computed in
// Python from '\n\n'.join('' if line == ' ' else line + '\n' for line in text.split('\n')[:-1]).
TEST_F(DatasetTest, WikiText2IsTheStringOfTheReference) {
  const auto path = SharedText("wiki.test.raw");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const Dataset dataset =
      LoadDataset({.source = "wikitext2", .data_directory = path.parent_path().string()},
                  DatasetUse::kEvaluation, 0);
  EXPECT_EQ(dataset.documents.size(), 1u);
  const std::string text = JoinDocuments(dataset);
  EXPECT_EQ(text.size(), 1296370u);
  EXPECT_EQ(Hash(text), 0x8521b84b68568ffbu);
}

// Hash of the documents, each followed by a zero byte, computed in Python with its json module.
TEST_F(DatasetTest, ThePileSampleIsReadAsPythonReadsIt) {
  const auto path = SharedText("pile_sample.jsonl");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const auto hash_of = [](const Dataset& dataset) {
    uint64_t hash = Hash("");
    for (const std::string& document : dataset.documents) {
      hash = Hash(std::string_view("\0", 1), Hash(document, hash));
    }
    return hash;
  };
  const Dataset plain = Load(path);
  EXPECT_EQ(plain.documents.size(), 318u);
  EXPECT_EQ(hash_of(plain), 0xec748e8997149b4bu);
  const auto zst = scratch_.Put("val.jsonl.zst", Compressed(ReadWholeFile(path, 1 << 24)));
  EXPECT_EQ(hash_of(Load(zst)), 0xec748e8997149b4bu);
}

}  // namespace
}  // namespace narrow
