#include "text/builtin_corpus.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/build_paths.h"
#include "text/dataset.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace narrow {
namespace {

std::vector<std::string> ReadFolder(const std::string& folder) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(NARROW_SOURCE_DIR "/corpus/") + folder)) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> texts;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    texts.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return texts;
}

void ExpectSame(std::span<const std::string_view> documents, const std::string& folder) {
  const std::vector<std::string> files = ReadFolder(folder);
  ASSERT_EQ(static_cast<std::size_t>(std::ssize(documents)), files.size());
  for (std::size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(documents[i], files[i]) << folder << " " << i;
    EXPECT_LT(FindInvalidUtf8(documents[i]), 0) << folder << " " << i;
    EXPECT_TRUE(documents[i].ends_with('\n')) << folder << " " << i;
  }
}

TEST(BuiltinCorpus, HoldsTheFilesOfTheRepositoryByteForByte) {
  ExpectSame(BuiltinCalibrationDocuments(), "calibration");
  ExpectSame(BuiltinEvaluationDocuments(), "evaluation");
}

// Ids of each document (calibration) and of all joined (evaluation), counted with Hugging Face
// tokenizers 0.23 and the tokenizer of Llama 3.1, BOS included.
TEST(BuiltinCorpus, IsAsLongAsTheReferenceTokenizerSays) {
  const char* shared = ::getenv("NARROW_SHARED_DIR");
  const std::filesystem::path directory =
      std::filesystem::path(shared != nullptr ? shared : NARROW_SOURCE_DIR "/../shared") / "data" /
      "tokenizers" / "llama-3.1";
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << directory << " is not there";
  const Tokenizer tokenizer = Tokenizer::FromDirectory(directory.string());
  int64_t calibration = 0;
  for (const std::string_view document : BuiltinCalibrationDocuments()) {
    calibration += std::ssize(tokenizer.Encode(document, SpecialTokens::kAdd));
  }
  EXPECT_EQ(calibration, 11762);
  Dataset evaluation;
  for (const std::string_view document : BuiltinEvaluationDocuments()) {
    evaluation.documents.emplace_back(document);
  }
  EXPECT_EQ(std::ssize(tokenizer.Encode(JoinDocuments(evaluation), SpecialTokens::kAdd)), 6003);
}

TEST(BuiltinCorpus, NoParagraphIsInBothParts) {
  const auto paragraphs = [](std::span<const std::string_view> documents) {
    std::set<std::string> found;
    for (std::string_view text : documents) {
      while (!text.empty()) {
        const std::size_t end = std::min(text.find("\n\n"), text.size());
        if (end >= 40) found.emplace(text.substr(0, end));
        text.remove_prefix(std::min(text.size(), end + 2));
      }
    }
    return found;
  };
  const auto calibration = paragraphs(BuiltinCalibrationDocuments());
  const auto evaluation = paragraphs(BuiltinEvaluationDocuments());
  EXPECT_GT(calibration.size(), 100u);
  EXPECT_GT(evaluation.size(), 50u);
  for (const std::string& paragraph : evaluation) EXPECT_EQ(calibration.count(paragraph), 0u);
}

}  // namespace
}  // namespace narrow
