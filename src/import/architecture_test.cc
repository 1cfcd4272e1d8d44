// Every architecture against files that the Python package wrote: names and shapes are those of
// transformers' own modules (tools/make_gguf_families.py).
#include "import/architecture.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "import/imported_values.h"
#include "io/scratch_directory.h"
#include "tests/build_paths.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

const std::string kData = NARROW_SOURCE_DIR "/src/import/testdata/";

Json Rows() { return ReadJsonFile(kData + "architectures.json"); }

// Numbers of the file are f32, those of the reference are not.
void ExpectMember(const Json& found, const Json& expected, const std::string& name) {
  if (expected.is_number_float()) {
    EXPECT_NEAR(found.get<double>(), expected.get<double>(), 1e-6 * expected.get<double>()) << name;
  } else {
    EXPECT_EQ(found, expected) << name;
  }
}

void ExpectConfig(const Json& config, const Json& row) {
  EXPECT_EQ(config["model_type"], row["model_type"]);
  for (const auto& [name, value] : row["config"].items()) ExpectMember(config[name], value, name);
  if (row["rope_scaling"].is_null()) {
    EXPECT_TRUE(config["rope_scaling"].is_null()) << config["rope_scaling"];
    return;
  }
  for (const auto& [name, value] : row["rope_scaling"].items()) {
    ExpectMember(config["rope_scaling"][name], value, name);
  }
  EXPECT_FALSE(config["rope_scaling"].contains("attention_factor"));
}

void ExpectTensors(const CheckpointReader& checkpoint, const Json& row) {
  EXPECT_EQ(checkpoint.tensors().size(), row["tensors"].size());
  for (const Json& tensor : row["tensors"]) {
    const std::string name = tensor[0].get<std::string>();
    const Shape shape = tensor[1].get<Shape>();
    ASSERT_NE(checkpoint.Find(name), nullptr) << name;
    EXPECT_EQ(checkpoint.Get(name).entry.shape, shape) << name;
    EXPECT_EQ(Values(checkpoint, name), ExpectedValues(tensor[2].get<int64_t>(), shape)) << name;
  }
}

TEST(Architecture, EachIsImportedAsTransformersHasIt) {
  const ScratchDirectory scratch;
  std::set<std::string_view> seen = {"llama"};  // model_type
  for (const Json& row : Rows()) {
    const std::string name = row["name"].get<std::string>();
    SCOPED_TRACE(name);
    Import(kData + name + ".gguf", scratch.path() / name);
    const CheckpointReader checkpoint(scratch.path() / name);
    ExpectConfig(checkpoint.config(), row);
    ExpectTensors(checkpoint, row);
    for (const GgufArchitecture& known : GgufArchitectures()) {
      if (known.model_type == row["model_type"]) seen.insert(known.model_type);
    }
  }
  EXPECT_EQ(seen.size(), GgufArchitectures().size());
}

TEST(Architecture, FilesOfASplitSetAreOneModel) {
  const ScratchDirectory scratch;
  for (const char* part : {"1", "2", "3"}) {
    const std::string name = fmt::format("split-0000{}-of-00003.gguf", part);
    std::filesystem::copy_file(kData + name, scratch.path() / name);
  }
  const auto first = scratch.path() / "split-00001-of-00003.gguf";
  const auto second = scratch.path() / "split-00002-of-00003.gguf";
  Import(first, scratch.path() / "m");
  for (const Json& row : Rows()) {
    if (row["name"] == "qwen3") ExpectTensors(CheckpointReader(scratch.path() / "m"), row);
  }
  ExpectError(ErrorCode::kInvalidArgument, "give the first one",
              [&] { Import(second, scratch.path() / "n"); });
  std::filesystem::copy_file(scratch.path() / "split-00003-of-00003.gguf", second,
                             std::filesystem::copy_options::overwrite_existing);
  ExpectError(ErrorCode::kCorruptInput, "expected part 2 of 3",
              [&] { Import(first, scratch.path() / "n"); });
  std::filesystem::remove(second);
  ExpectError(ErrorCode::kNotFound, "split-00002-of-00003.gguf",
              [&] { Import(first, scratch.path() / "n"); });
}

// Two spaces are a piece that the file spells with spaces, and an ordinary one.
TEST(Architecture, GemmaRunsOfSpaces) {
  const ScratchDirectory scratch;
  Import(kData + "gemma3.gguf", scratch.path() / "m");
  const Tokenizer tokenizer = Tokenizer::FromDirectory((scratch.path() / "m").string());
  EXPECT_EQ(tokenizer.Encode("ab  a  ", SpecialTokens::kAdd),
            (std::vector<int32_t>{1, 10, 9, 4, 9}));
}

}  // namespace
}  // namespace narrow
