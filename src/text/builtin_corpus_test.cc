#include "text/builtin_corpus.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <vector>

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
