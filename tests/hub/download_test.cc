// What a download leaves, and that it is continued.
#include <fcntl.h>
#include <sys/file.h>

#include <thread>

#include "hub/model_files.h"
#include "tests/hub/hub_test.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class HubDownloadTest : public HubTest {};

// Layout, names and contents as huggingface_hub documents its cache.
TEST_F(HubDownloadTest, LeavesTheLayoutOfTheCache) {
  PutFile("additional_chat_templates/tool.jinja", "x");
  server_.Start();
  const HubSnapshot snapshot = Download();
  ExpectWhole(snapshot);
  const fs::path folder = cache() / "models--org--model";
  EXPECT_EQ(ReadFile(folder / "refs" / "main"), snapshot.listing().commit);
  EXPECT_EQ(snapshot.directory(), folder / "snapshots" / snapshot.listing().commit);
  for (const HubFile& file : snapshot.listing().files) {
    const fs::path link = fs::read_symlink(snapshot.directory() / file.path);
    EXPECT_TRUE(link.is_relative()) << link;
    EXPECT_EQ(link.filename(), file.blob);
    EXPECT_TRUE(fs::exists(cache() / ".locks" / "models--org--model" / (file.blob + ".lock")));
  }
  // The ids that git and sha256sum give these contents.
  EXPECT_EQ(snapshot.listing().Find("config.json")->blob,
            "cb5b2f69babc53f9145b45ad20b9a075d48717ef");
  EXPECT_THAT(ReadFile(cache() / "CACHEDIR.TAG"),
              HasSubstr("Signature: 8a477f597d28d172789f06886806bc55"));
  server_.ClearLog();
  Download();
  EXPECT_THAT(Requests("/resolve/"), testing::IsEmpty());
}

TEST_F(HubDownloadTest, SendsTheTokenToTheEndpointAlone) {
  server_.Start();
  Download();
  const std::vector<Json> hub = Requests("hub /");
  const std::vector<Json> cdn = Requests("cdn /");
  ASSERT_FALSE(hub.empty());
  ASSERT_FALSE(cdn.empty());
  for (const Json& entry : hub) EXPECT_EQ(entry.at("authorization"), "Bearer hf_of_the_tests");
  for (const Json& entry : cdn) EXPECT_TRUE(entry.at("authorization").is_null());
}

TEST_F(HubDownloadTest, AsksForRangesThatTileTheFile) {
  server_.Start();
  ExpectWhole(Download());
  std::vector<std::string> ranges;
  for (const Json& entry : Requests("cdn /")) ranges.push_back(entry.at("range"));
  EXPECT_THAT(ranges, testing::UnorderedElementsAre("bytes=0-8388607", "bytes=8388608-16777215",
                                                    "bytes=16777216-19999999"));
  // The redirect is asked for once: its address is used for the other ranges.
  EXPECT_EQ(Requests("hub /org/model/resolve").size(), 2u);
}

TEST_F(HubDownloadTest, ContinuesWhatABrokenDownloadLeft) {
  server_.Start();
  const std::string large = Bytes(20'000'000, 1);
  const HubListing listing = HubClient(server_.Settings(cache())).List(Name());
  const std::string blob = listing.Find("large.safetensors")->blob;
  fs::create_directories(blobs());
  WriteFile(blobs() / (blob + ".incomplete"), std::string_view(large).substr(0, 15'000'000));
  ExpectWhole(Download());
  EXPECT_EQ(Requests("cdn /").size(), 1u);
  EXPECT_EQ(Requests("cdn /").front().at("range"), "bytes=15000000-19999999");
  EXPECT_FALSE(fs::exists(blobs() / (blob + ".incomplete")));
}

// What is continued may be damaged, longer than the file, or complete.
TEST_F(HubDownloadTest, TakesNoPartialFileOnTrust) {
  server_.Start();
  const std::string large = Bytes(20'000'000, 1);
  const std::string blob =
      HubClient(server_.Settings(cache())).List(Name()).Find("large.safetensors")->blob;
  const std::string damaged = "x" + large.substr(1, 9'000'000);
  for (const std::string& partial : {damaged, large + "x", large, std::string()}) {
    fs::remove_all(cache());
    fs::create_directories(blobs());
    WriteFile(blobs() / (blob + ".incomplete"), partial);
    ExpectWhole(Download());
  }
}

TEST_F(HubDownloadTest, WaitsForWhoHoldsTheLock) {
  server_.Start();
  const std::string blob =
      HubClient(server_.Settings(cache())).List(Name()).Find("config.json")->blob;
  const fs::path lock = cache() / ".locks" / "models--org--model" / (blob + ".lock");
  fs::create_directories(lock.parent_path());
  const FileDescriptor held(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(::flock(held.get(), LOCK_EX), 0);
  std::atomic<bool> done = false;
  std::thread other([&] {
    Download();
    done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_FALSE(done);
  EXPECT_FALSE(fs::exists(blobs() / blob));
  ::flock(held.get(), LOCK_UN);
  other.join();
  EXPECT_TRUE(fs::exists(blobs() / blob));
}

TEST_F(HubDownloadTest, TakesRevisionsByNameAndByCommit) {
  PutFile("config.json", "{\"b\": 2}\n", "v2");
  server_.Start();
  const HubSnapshot old = Download(server_.Settings(cache()), "org/model@v1");
  ExpectWhole(old, "v1");
  const HubSnapshot latest = Download();
  ExpectWhole(latest, "v2");
  EXPECT_NE(old.listing().commit, latest.listing().commit);
  EXPECT_EQ(ReadFile(cache() / "models--org--model/refs/v1"), old.listing().commit);
  const HubSnapshot pinned =
      Download(server_.Settings(cache()), "org/model@" + old.listing().commit);
  ExpectWhole(pinned, "v1");
  EXPECT_FALSE(fs::exists(cache() / "models--org--model/refs" / old.listing().commit));
}

TEST_F(HubDownloadTest, GoesThroughAProxy) {
  server_.Start();
  HubSettings settings = server_.Settings(cache());
  const std::string proxy = settings.endpoint;
  settings.endpoint = "http://hub.invalid";
  ::setenv("http_proxy", proxy.c_str(), 1);
  ::unsetenv("no_proxy");
  const HubListing listing = HubClient(settings).List(Name());
  ::unsetenv("http_proxy");
  EXPECT_EQ(listing.files.size(), 2u);
  for (const Json& entry : server_.Log()) {
    EXPECT_THAT(entry.at("target").get<std::string>(),
                testing::StartsWith("http://hub.invalid/api/"));
  }
}

// Other formats of the same weights stay where they are.
TEST_F(HubDownloadTest, ChoosesTheFilesOfACheckpoint) {
  for (const char* name : {"pytorch_model.bin", "original/consolidated.00.pth", "model.gguf",
                           "adapter_model.safetensors", "tokenizer.json", "README.md",
                           "onnx/config.json", ".gitattributes"}) {
    PutFile(name, name);
  }
  server_.Start();
  const HubSettings settings = server_.Settings(cache());
  HubSnapshot snapshot(settings, Name(), HubClient(settings).List(Name()));
  const ModelFiles files = FindModelFiles(snapshot, progress_);
  std::vector<std::string> names;
  for (const HubFile* file : files.description) names.push_back(file->path);
  EXPECT_THAT(names, testing::UnorderedElementsAre("README.md", "config.json", "tokenizer.json"));
  ASSERT_EQ(files.weights.size(), 1u);
  EXPECT_EQ(files.weights.front()->path, "large.safetensors");
}

TEST_F(HubDownloadTest, SaysWhatIsMissingOfAModel) {
  const auto find = [&](const char* repository) {
    const HubSettings settings = server_.Settings(cache());
    const RepositoryName name = Name(repository);
    HubSnapshot snapshot(settings, name, HubClient(settings).List(name));
    FindModelFiles(snapshot, progress_);
  };
  server_.Put("models/org/bin/v1/config.json", "{}");
  server_.Put("models/org/bin/v1/pytorch_model.bin", "x");
  server_.Put("models/org/none/v1/model.gguf", "x");
  server_.Put("models/org/index/v1/config.json", "{}");
  server_.Put("models/org/index/v1/model.safetensors.index.json",
              R"({"weight_map": {"a": "one.safetensors"}})");
  server_.Put("models/org/leave/v1/config.json", "{}");
  server_.Put("models/org/leave/v1/model.safetensors.index.json",
              R"({"weight_map": {"a": "../one.safetensors"}})");
  server_.Start();
  ExpectError(ErrorCode::kNotFound, "no weights in safetensors (it has \"pytorch_model.bin\")",
              [&] { find("org/bin"); });
  ExpectError(ErrorCode::kNotFound, "has no config.json (it has \"model.gguf\")",
              [&] { find("org/none"); });
  ExpectError(ErrorCode::kNotFound, "has no \"one.safetensors\"", [&] { find("org/index"); });
  ExpectError(ErrorCode::kCorruptInput, "not a plain file name", [&] { find("org/leave"); });
}

}  // namespace
}  // namespace narrow
