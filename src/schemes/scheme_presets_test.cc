#include "schemes/scheme_presets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "io/scratch_directory.h"
#include "tests/build_paths.h"

namespace narrow {
namespace {

TEST(SchemePresets, NamesAreTakenInUpperAndLowerCase) {
  for (const SchemePreset& preset : SchemePresets()) {
    std::string lower(preset.name), upper(preset.name);
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
    std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return std::toupper(c); });
    EXPECT_EQ(FindSchemePreset(lower), &preset);
    EXPECT_EQ(FindSchemePreset(upper), &preset);
  }
  EXPECT_EQ(GetSchemePreset("ptpc_fp8").name, "FP8_DYNAMIC");
  EXPECT_EQ(GetSchemePreset("W_FP8_A_FP8").name, "fp8");
}

TEST(SchemePresets, NoTwoRowsAreTheSameScheme) {
  for (const SchemePreset& preset : SchemePresets()) {
    EXPECT_EQ(PresetOf(preset.scheme), &preset) << preset.name;
  }
}

TEST(SchemePresets, UnknownNamesAreRefusedWithTheKnownOnes) {
  ExpectError(ErrorCode::kInvalidArgument, "NVFP4A16", [] { GetSchemePreset("fp3"); });
  ExpectError(ErrorCode::kInvalidArgument, "is not known", [] { GetSchemePreset(""); });
}

TEST(SchemePresets, Int8IsRefusedWithBothMeanings) {
  ExpectError(ErrorCode::kInvalidArgument, "say W8A8", [] { GetSchemePreset("INT8"); });
  ExpectError(ErrorCode::kInvalidArgument, "Quark's one static scale",
              [] { GetSchemePreset("int8"); });
}

// A scheme is its row: nothing else of the program goes by the name of one.
TEST(SchemePresets, NamedInTheirTableAlone) {
  const std::filesystem::path source = std::filesystem::path(NARROW_SOURCE_DIR) / "src";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source)) {
    const std::filesystem::path& path = entry.path();
    const std::string file = path.filename().string();
    if ((path.extension() != ".cc" && path.extension() != ".h") || file.ends_with("_test.cc") ||
        file.starts_with("scheme_presets.") || file.starts_with("gguf.")) {  // types of GGUF
      continue;
    }
    std::ifstream stream(path);
    for (std::string line; std::getline(stream, line);) {
      line.resize(std::min(line.size(), line.find("//")));
      for (const SchemePreset& preset : SchemePresets()) {
        if (preset.name == "fp8") continue;  // a format and a type have that name, too
        const std::string literal = '"' + std::string(preset.name) + '"';
        EXPECT_EQ(line.find(literal), line.npos) << path << ": " << line;
      }
    }
  }
}

TEST(SchemePresets, WhatComesFromCalibration) {
  std::set<std::string_view> calibrated;
  for (const SchemePreset& preset : SchemePresets()) {
    if (NeedsCalibration(preset.scheme)) calibrated.insert(preset.name);
  }
  EXPECT_EQ(calibrated, (std::set<std::string_view>{"fp8", "W8A8_STATIC", "NVFP4"}));
}

}  // namespace
}  // namespace narrow
