#include "io/checkpoint_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "io/scratch_directory.h"
#include "tests/build_paths.h"

namespace narrow {
namespace {

std::string Weights(const std::vector<std::string>& names) {
  std::vector<TensorSpec> tensors;
  for (const std::string& name : names) tensors.push_back({name, Dtype::kBF16, {2}});
  const SafetensorsLayout layout = BuildSafetensorsLayout(std::move(tensors));
  std::string file = layout.header;
  file.resize(static_cast<std::size_t>(layout.file_bytes), 'x');
  return file;
}

void PutIndex(const ScratchDirectory& scratch, std::string_view weight_map) {
  scratch.Put("model.safetensors.index.json",
              fmt::format(R"({{"metadata":{{}},"weight_map":{}}})", weight_map));
}

// config.json and two shards with one tensor each.
void PutShards(const ScratchDirectory& scratch) {
  scratch.Put("config.json", R"({"model_type":"llama"})");
  scratch.Put("x.safetensors", Weights({"a"}));
  scratch.Put("y.safetensors", Weights({"b"}));
}

void ExpectRefused(const ScratchDirectory& scratch, ErrorCode code, std::string_view fragment) {
  ExpectError(code, fragment, [&] { CheckpointReader{scratch.path()}; });
}

TEST(CheckpointReader, ReadsShardsByIndex) {
  const ScratchDirectory scratch;
  PutShards(scratch);
  scratch.Put("consolidated.safetensors", "not named by the index");
  PutIndex(scratch, R"({"b":"y.safetensors","a":"x.safetensors"})");
  const CheckpointReader reader(scratch.path());
  ASSERT_EQ(reader.tensors().size(), 2u);
  EXPECT_EQ(reader.tensors()[0].entry.name, "a");
  EXPECT_EQ(reader.Get("b").file->path().filename(), "y.safetensors");
  EXPECT_EQ(reader.Find("c"), nullptr);
  ExpectError(ErrorCode::kCorruptInput, "no tensor c", [&] { reader.Get("c"); });
  ASSERT_EQ(reader.files().size(), 2u);
  EXPECT_EQ(reader.files()[0].name, "x.safetensors");
  EXPECT_EQ(reader.files()[0].bytes, static_cast<int64_t>(Weights({"a"}).size()));
  EXPECT_EQ(reader.config()["model_type"], Json("llama"));
}

TEST(CheckpointReader, FindsTheOnlyWeightFile) {
  const ScratchDirectory scratch;
  scratch.Put("config.json", "{}");
  ExpectRefused(scratch, ErrorCode::kNotFound, "no safetensors weights");
  scratch.Put("x.safetensors", Weights({"a"}));
  EXPECT_EQ(CheckpointReader(scratch.path()).tensors().size(), 1u);
  scratch.Put("y.safetensors", Weights({"b"}));
  ExpectRefused(scratch, ErrorCode::kNotFound, "2 safetensors files (x.safetensors, y.saf");
  scratch.Put("model.safetensors", Weights({"c"}));
  EXPECT_NE(CheckpointReader(scratch.path()).Find("c"), nullptr);
}

TEST(CheckpointReader, NeedsADirectoryAndAConfig) {
  const ScratchDirectory scratch;
  ExpectError(ErrorCode::kNotFound, "no such model directory",
              [&] { CheckpointReader(scratch.path() / "absent"); });
  scratch.Put("model.safetensors", Weights({"a"}));
  ExpectRefused(scratch, ErrorCode::kNotFound, "no config.json");
  scratch.Put("config.json", "[1]");
  ExpectRefused(scratch, ErrorCode::kCorruptInput, "expected a JSON object");
  scratch.Put("config.json", std::string(100'000, '['));
  ExpectRefused(scratch, ErrorCode::kCorruptInput, "nested deeper");
}

TEST(CheckpointReader, RefusesAnIndexThatLies) {
  struct Case {
    const char* weight_map;
    ErrorCode code;
    const char* fragment;
  };
  const Case cases[] = {
      {"null", ErrorCode::kCorruptInput, "weight_map is missing"},
      {"{}", ErrorCode::kCorruptInput, "weight_map is missing or empty"},
      {"[]", ErrorCode::kCorruptInput, "should be an object"},
      {R"({"a":1})", ErrorCode::kCorruptInput, "gives tensor \"a\" no file"},
      {R"({"a":"x.safetensors","a":"y.safetensors"})", ErrorCode::kCorruptInput, "twice"},
      {R"({"a":"x.safetensors","b":"z.safetensors"})", ErrorCode::kNotFound, "z.safetensors"},
      {R"({"b":"x.safetensors","a":"y.safetensors"})", ErrorCode::kCorruptInput, "belongs to"},
      {R"({"a":"../x.safetensors"})", ErrorCode::kCorruptInput, "not a plain file name"},
      {R"({"a":"sub/x.safetensors"})", ErrorCode::kCorruptInput, "not a plain file name"},
      {R"({"a":"/etc/x.safetensors"})", ErrorCode::kCorruptInput, "not a plain file name"},
      {R"({"a":"..\\x.safetensors"})", ErrorCode::kCorruptInput, "not a plain file name"},
      {R"({"a":".."})", ErrorCode::kCorruptInput, "not a plain file name"},
      {R"({"a":""})", ErrorCode::kCorruptInput, "not a plain file name"},
      {R"({"a":"x.safetensors\u0000"})", ErrorCode::kCorruptInput, "not a plain file name"},
      {R"({"a":"model.bin"})", ErrorCode::kUnsupported, "not a safetensors file"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.weight_map);
    const ScratchDirectory scratch;
    PutShards(scratch);
    PutIndex(scratch, c.weight_map);
    ExpectRefused(scratch, c.code, c.fragment);
  }
}

// Its bytes are all `fill`.
std::string Filled(const std::vector<std::string>& names, char fill) {
  std::string file = Weights(names);
  std::replace(file.end() - static_cast<std::ptrdiff_t>(4 * names.size()), file.end(), 'x', fill);
  return file;
}

std::string Contents(const CheckpointReader& reader, std::string_view name) {
  std::string bytes(4, '\0');
  reader.Read(reader.Get(name), std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

TEST(CheckpointReader, TheIndexDecidesBetweenCopies) {
  for (const std::string chosen : {"x", "y"}) {
    const ScratchDirectory scratch;
    scratch.Put("config.json", "{}");
    scratch.Put("x.safetensors", Filled({"a", "b"}, 'x'));
    scratch.Put("y.safetensors", Filled({"a", "c"}, 'y'));
    PutIndex(scratch, fmt::format(R"({{"b":"x.safetensors","a":"{}.safetensors",)"
                                  R"("c":"y.safetensors"}})",
                                  chosen));
    const CheckpointReader reader(scratch.path());
    EXPECT_EQ(reader.tensors().size(), 3u);
    EXPECT_EQ(Contents(reader, "a"), std::string(4, chosen[0]));
    ASSERT_EQ(reader.remarks().size(), 1u);
    EXPECT_NE(reader.remarks()[0].find("\"a\" is stored twice: the one in " + chosen),
              std::string::npos)
        << reader.remarks()[0];
  }
}

TEST(CheckpointReader, ReadsWhatTheIndexDoesNotList) {
  const ScratchDirectory scratch;
  PutShards(scratch);
  PutIndex(scratch, R"({"a":"x.safetensors","b":"y.safetensors"})");
  scratch.Put("y.safetensors", Weights({"b", "c"}));
  const CheckpointReader reader(scratch.path());
  EXPECT_EQ(reader.Get("c").file->path().filename(), "y.safetensors");
  EXPECT_FALSE(reader.Get("c").listed);
  EXPECT_TRUE(reader.Get("b").listed);
  scratch.Put("x.safetensors", Weights({"a", "c"}));
  ExpectRefused(scratch, ErrorCode::kCorruptInput, "tensor \"c\" is in x.safetensors and in");
}

TEST(CheckpointReader, KnowsWhatTheIndexListsAndNoFileHas) {
  const ScratchDirectory scratch;
  PutShards(scratch);
  PutIndex(scratch, R"({"a":"x.safetensors","b":"y.safetensors","c":"y.safetensors"})");
  const CheckpointReader reader(scratch.path());
  EXPECT_EQ(reader.absent(), (std::map<std::string, std::string>{{"c", "y.safetensors"}}));
  EXPECT_EQ(reader.Find("c"), nullptr);
  ExpectError(ErrorCode::kCorruptInput, "y.safetensors: has no tensor \"c\", although",
              [&] { reader.Get("c"); });
}

TEST(CheckpointReader, TakesAnIndexWithoutUsableMetadata) {
  for (const char* metadata :
       {"", R"("metadata":null,)", R"("metadata":{"total_size":1},)", R"("metadata":[],)"}) {
    const ScratchDirectory scratch;
    PutShards(scratch);
    scratch.Put(
        "model.safetensors.index.json",
        fmt::format(R"({{{}"weight_map":{{"a":"x.safetensors","b":"y.safetensors"}}}})", metadata));
    EXPECT_EQ(CheckpointReader(scratch.path()).tensors().size(), 2u) << metadata;
  }
}

TEST(CheckpointReader, SaysWhichOfIndexAndSingleFileIsRead) {
  const ScratchDirectory scratch;
  PutShards(scratch);
  PutIndex(scratch, R"({"a":"x.safetensors","b":"y.safetensors"})");
  scratch.Put("model.safetensors", Weights({"z"}));
  const CheckpointReader reader(scratch.path());
  EXPECT_EQ(reader.Find("z"), nullptr);
  ASSERT_EQ(reader.remarks().size(), 1u);
  EXPECT_NE(reader.remarks()[0].find("model.safetensors is there beside"), std::string::npos);
  std::filesystem::remove(scratch.path() / "y.safetensors");
  ExpectRefused(scratch, ErrorCode::kNotFound, "or remove the index");
}

TEST(CheckpointReader, FollowsLinksAndNamesTheOnesThatLeadNowhere) {
  namespace fs = std::filesystem;
  const ScratchDirectory cache;
  const ScratchDirectory scratch;
  cache.Put("blob-config", "{}");
  cache.Put("blob-weights", Weights({"a"}));
  fs::create_symlink(cache.path() / "blob-config", scratch.path() / "config.json");
  fs::create_symlink(cache.path() / "blob-weights", scratch.path() / "model.safetensors");
  EXPECT_NE(CheckpointReader(scratch.path()).Find("a"), nullptr);
  fs::remove(cache.path() / "blob-weights");
  ExpectRefused(scratch, ErrorCode::kNotFound, "blob-weights, which does not exist");
  fs::remove(cache.path() / "blob-config");
  ExpectRefused(scratch, ErrorCode::kNotFound, "blob-config, which does not exist");
}

TEST(CheckpointReader, KnowsALinkThatWasCopiedAsText) {
  const ScratchDirectory scratch;
  scratch.Put("model.safetensors", Weights({"a"}));
  scratch.Put("blob", "{}");
  scratch.Put("config.json", "./blob\n");
  ExpectRefused(scratch, ErrorCode::kCorruptInput, "holds the text ./blob: a symbolic link");
  scratch.Put("config.json", "./gone");
  ExpectRefused(scratch, ErrorCode::kCorruptInput, "not valid JSON");
}

TEST(CheckpointReader, RenamesATensor) {
  const ScratchDirectory scratch;
  scratch.Put("config.json", "{}");
  scratch.Put("model.safetensors", Filled({"a", "b"}, 'q'));
  CheckpointReader reader(scratch.path());
  reader.Rename("a", "z");
  EXPECT_EQ(reader.Find("a"), nullptr);
  EXPECT_EQ(reader.Get("z").entry.name, "z");
  EXPECT_EQ(Contents(reader, "z"), "qqqq");
  EXPECT_EQ(reader.tensors()[1].entry.name, "z");
}

TEST(CheckpointReader, NamesTheDamagedShard) {
  const ScratchDirectory scratch;
  PutShards(scratch);
  PutIndex(scratch, R"({"a":"x.safetensors","b":"y.safetensors"})");
  const std::string whole = Weights({"b"});
  scratch.Put("y.safetensors", whole.substr(0, whole.size() - 1));
  ExpectRefused(scratch, ErrorCode::kCorruptInput, "y.safetensors: tensor \"b\" ends at byte");
  scratch.Put("y.safetensors",
              "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  ExpectRefused(scratch, ErrorCode::kCorruptInput, "git lfs pull");
}

TEST(CheckpointReader, ReadsACheckpointOfTransformers) {
  const char* shared = std::getenv("NARROW_SHARED_DIR");
  const std::filesystem::path directory =
      std::filesystem::path(shared != nullptr ? shared : NARROW_SOURCE_DIR "/../shared") /
      "golden/tiny-llama3";
  if (!std::filesystem::exists(directory)) GTEST_SKIP() << directory << " is not there";
  const CheckpointReader reader(directory);
  EXPECT_EQ(reader.files().size(), 8u);
  EXPECT_EQ(reader.tensors().size(), 3u * 9 + 3);
  EXPECT_EQ(reader.Get("model.embed_tokens.weight").entry.shape, (Shape{512, 128}));
  EXPECT_EQ(reader.Get("model.layers.2.self_attn.k_proj.weight").entry.shape, (Shape{32, 128}));
  EXPECT_EQ(reader.Get("lm_head.weight").entry.dtype, Dtype::kBF16);
}

}  // namespace
}  // namespace narrow
