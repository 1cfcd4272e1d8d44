// Texts of the hub by name.
#include <random>

#include "hub/digest.h"
#include "jobs/dataset_fetch.h"
#include "tests/build_paths.h"
#include "tests/hub/hub_test.h"
#include "tests/shared_data.h"
#include "text/compressed.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kWikiText = "datasets/Salesforce/wikitext/v1/wikitext-2-raw-v1/";
constexpr const char* kPile = "datasets/mit-han-lab/pile-val-backup/v1/val.jsonl.zst";

class HubDatasetsTest : public HubTest {
 protected:
  void SetUp() override {
    if (!HubServer::Available()) GTEST_SKIP() << "the tests' hub needs /usr/bin/python3";
  }
  // The variables that the server of the test makes, for this process.
  void StartForThisProcess() {
    server_.Start();
    for (const auto& [name, value] : server_.Options(cache()).environment) {
      ::setenv(name.c_str(), value.c_str(), 1);
    }
    ::setenv("NARROW_DATA_DIR", "/nonexistent", 1);
  }
  Dataset Load(std::optional<std::string> source, DatasetUse use, int64_t documents) {
    DatasetRequest request;
    request.source = std::move(source);
    FetchDataset(request, use, documents, progress_);
    return LoadDataset(request, use, documents);
  }
  static std::string Parquet(const std::string& name) {
    return ReadFile(fs::path(NARROW_SOURCE_DIR) / "src/text/testdata/parquet" /
                    (name + ".parquet"));
  }
  static std::vector<std::string> Rows(const std::string& name) {
    const Json expected = ReadJsonFile(NARROW_SOURCE_DIR "/src/text/testdata/parquet/rows.json");
    std::vector<std::string> rows;
    for (const Json& row : expected.at("kinds").at(name)) {
      rows.push_back(row.is_null() ? "" : expected.at("texts").at(row.get<std::size_t>()));
    }
    return rows;
  }
  // Documents that do not compress away, empty ones among them.
  static std::vector<std::string> Documents(int count) {
    std::mt19937 random(7);
    std::vector<std::string> documents;
    for (int i = 0; i < count; ++i) {
      std::string& text = documents.emplace_back();
      if (i % 10 == 9) continue;
      for (int k = 0; k < 4000; ++k) text += static_cast<char>('a' + random() % 26);
    }
    return documents;
  }
  static std::string Lines(const std::vector<std::string>& documents) {
    std::string lines;
    for (const std::string& text : documents) lines += Json({{"text", text}}).dump() + "\n";
    return lines;
  }
  int64_t BytesInCache() const {
    int64_t bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(cache())) {
      if (entry.is_regular_file() && !entry.is_symlink()) {
        bytes += static_cast<int64_t>(entry.file_size());
      }
    }
    return bytes;
  }
};

// The rows as the raw file has them, joined as published figures have it.
TEST_F(HubDatasetsTest, WikiTextIsTheTestSplit) {
  server_.Put(std::string(kWikiText) + "test-00000-of-00001.parquet", Parquet("required"));
  server_.Put(std::string(kWikiText) + "train-00000-of-00001.parquet", Parquet("repeated"));
  server_.Put("datasets/Salesforce/wikitext/v1/wikitext-103-v1/test-00000-of-00001.parquet", "x");
  StartForThisProcess();
  const Dataset test = Load("wikitext2", DatasetUse::kEvaluation, 0);
  EXPECT_EQ(test.name, "wikitext2");
  EXPECT_THAT(test.source, testing::MatchesRegex("Salesforce/wikitext at [0-9a-f]{40}"));
  EXPECT_EQ(test.documents, Rows("required"));
  std::string raw;
  for (const std::string& row : Rows("required")) raw += row.empty() ? " \n" : row;
  EXPECT_EQ(JoinDocuments(test), JoinWikiTextRows(raw));
  EXPECT_EQ(Requests("cdn /").size(), 1u);  // of that split and config alone
  const Dataset train = Load("wikitext2", DatasetUse::kCalibration, 5);
  EXPECT_EQ(train.documents.size(), 5u);
  EXPECT_EQ(train.documents.front(), Rows("repeated").at(1));  // the first row is empty
}

// The whole split, made by pyarrow, has the published digest of the raw file.
TEST_F(HubDatasetsTest, TheRowsOfWikiTextAreTheRawFile) {
  const std::string shared = SharedPath("data/text/wiki.test.raw");
  if (shared.empty()) GTEST_SKIP() << "needs data/text/wiki.test.raw of the shared data";
  CommandOptions options;
  const char* packages = std::getenv("NARROW_HUB_PACKAGES");
  if (packages != nullptr) options.environment["PYTHONPATH"] = packages;
  const fs::path file = scratch_.path() / "wiki.parquet";
  const CommandResult made =
      RunCommand({"/usr/bin/python3", NARROW_SOURCE_DIR "/tools/make_parquet_tests.py", "--whole",
                  fs::path(shared).parent_path().parent_path().parent_path(), file},
                 options);
  if (made.status != 0) GTEST_SKIP() << "needs Python's pyarrow (tools/prepare_hub_packages.sh)";
  server_.Put(std::string(kWikiText) + "test-00000-of-00001.parquet", ReadFile(file));
  StartForThisProcess();
  const Dataset test = Load("wikitext2", DatasetUse::kEvaluation, 0);
  std::string raw;
  for (const std::string& row : test.documents) raw += row.empty() ? " \n" : row;
  EXPECT_EQ(test.documents.size(), 4358u);
  ContentDigest digest(ContentDigest::Kind::kSha256, 0);
  digest.Add(std::as_bytes(std::span(raw)));
  EXPECT_EQ(digest.Finish(), "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08");
}

TEST_F(HubDatasetsTest, ThePileIsReadAsFarAsItIsNeeded) {
  const std::vector<std::string> documents = Documents(3000);
  const std::string packed = Compressed(Lines(documents));
  ASSERT_GT(packed.size(), 5'000'000u);
  server_.Put(kPile, packed);
  StartForThisProcess();
  const Dataset few = Load("pileval", DatasetUse::kCalibration, 20);
  ASSERT_EQ(few.documents.size(), 20u);
  EXPECT_EQ(few.empty_documents, 2);
  EXPECT_EQ(few.documents.back(), documents[21]);
  EXPECT_THAT(few.source, testing::StartsWith("mit-han-lab/pile-val-backup at "));
  EXPECT_LT(BytesInCache(), 1'000'000);
  server_.ClearLog();
  EXPECT_EQ(Load("pileval", DatasetUse::kCalibration, 20).documents, few.documents);
  EXPECT_THAT(Requests("/resolve/"), IsEmpty());
  // More documents go on where these ended; all of them make the file complete.
  const Dataset more = Load("pileval", DatasetUse::kCalibration, 500);
  EXPECT_EQ(more.documents.back(), documents[554]);
  ASSERT_EQ(Requests("cdn /").size(), 1u);
  EXPECT_THAT(Requests("cdn /").front().at("range").get<std::string>(),
              testing::Not(testing::StartsWith("bytes=0-")));
  EXPECT_EQ(Load("pileval", DatasetUse::kCalibration, 100'000).documents.size(), 2700u);
  EXPECT_GE(BytesInCache(), std::ssize(packed));
  EXPECT_LT(BytesInCache(), std::ssize(packed) + 1000);  // no part of it twice
}

TEST_F(HubDatasetsTest, AnyConfigSplitAndColumn) {
  server_.Put("datasets/org/set/v1/one/train-00000-of-00002.parquet", Parquet("required"));
  server_.Put("datasets/org/set/v1/one/train-00001-of-00002.parquet", Parquet("columns"));
  server_.Put("datasets/org/set/v1/two/valid/0000.parquet", Parquet("columns"));
  server_.Put("datasets/org/plain/v1/data/train-00000-of-00001.parquet", Parquet("columns"));
  StartForThisProcess();
  EXPECT_EQ(Load("org/set:two:valid:title", DatasetUse::kEvaluation, 0).documents.at(3), "title 3");
  EXPECT_EQ(Load("org/plain", DatasetUse::kCalibration, 2).documents.size(), 2u);
  server_.ClearLog();
  Load("org/set@v1:one", DatasetUse::kCalibration, 3);
  EXPECT_EQ(Requests("cdn /").size(), 1u);  // one file was enough
  const Dataset both = Load("org/set:one:train:text", DatasetUse::kCalibration, 20);
  EXPECT_EQ(both.documents.size(), 20u);
  EXPECT_GT(both.empty_documents, 0);
  ExpectError(ErrorCode::kNotFound, "its configs and splits are: one:train, two:valid",
              [&] { Load("org/set:one:test", DatasetUse::kEvaluation, 0); });
  ExpectError(ErrorCode::kNotFound, "there is no flat column \"body\"",
              [&] { Load("org/plain:default:train:body", DatasetUse::kEvaluation, 0); });
  ExpectError(ErrorCode::kNotFound, "no such repository",
              [&] { Load("org/none", DatasetUse::kEvaluation, 0); });
}

TEST_F(HubDatasetsTest, ADefaultIsNeverFetched) {
  server_.Put(std::string(kWikiText) + "test-00000-of-00001.parquet", Parquet("required"));
  server_.Put(kPile, Compressed(Lines(Documents(30))));
  StartForThisProcess();
  EXPECT_EQ(Load(std::nullopt, DatasetUse::kCalibration, 3).name, "builtin");
  EXPECT_EQ(Load(std::nullopt, DatasetUse::kEvaluation, 0).name, "builtin");
  EXPECT_THAT(server_.Log(), IsEmpty());
  // What lies in the cache is taken, without a request.
  Load("wikitext2", DatasetUse::kEvaluation, 0);
  Load("pileval", DatasetUse::kCalibration, 1000);
  server_.Stop();
  EXPECT_EQ(Load(std::nullopt, DatasetUse::kCalibration, 3).name, "pileval");
  EXPECT_EQ(Load(std::nullopt, DatasetUse::kEvaluation, 0).documents, Rows("required"));
  ::setenv("HF_HUB_OFFLINE", "1", 1);
  EXPECT_EQ(Load("pileval", DatasetUse::kCalibration, 3).documents.size(), 3u);
  ExpectError(ErrorCode::kNotFound, "HF_HUB_OFFLINE",
              [&] { Load("org/none", DatasetUse::kEvaluation, 0); });
}

TEST_F(HubDatasetsTest, ReportAndCardNameTheSource) {
  server_.Put(std::string(kWikiText) + "test-00000-of-00001.parquet", Parquet("required"));
  server_.Put(kPile, Compressed(Lines(Documents(30))));
  const std::string model = scratch_.path() / "model";
  WriteTinyModel(model, TinyModel());
  server_.Start();
  const std::string output = scratch_.path() / "output";
  const CommandResult result =
      RunNarrow(QuantizeArguments(model, output,
                                  {"--dataset", "pileval", "--num_calib_data", "4", "--eval_data",
                                   "wikitext2", "--eval_windows", "1", "--window_tokens", "64"}),
                server_.Options(cache()));
  ASSERT_EQ(result.status, 0) << result.error;
  const Json report = ReadJsonFile(output + "/narrow-report.json");
  EXPECT_EQ(report.at("calibration").at("dataset"), "pileval");
  EXPECT_THAT(report.at("calibration").at("source").get<std::string>(),
              testing::MatchesRegex("mit-han-lab/pile-val-backup at [0-9a-f]{40}"));
  EXPECT_THAT(report.at("evaluation").at("source").get<std::string>(),
              testing::MatchesRegex("Salesforce/wikitext at [0-9a-f]{40}"));
  const std::string card = ReadFile(output + "/README.md");
  EXPECT_THAT(card, HasSubstr("pileval (mit-han-lab/pile-val-backup at "));
  EXPECT_THAT(card, HasSubstr("wikitext2 (Salesforce/wikitext at "));
}

}  // namespace
}  // namespace narrow
