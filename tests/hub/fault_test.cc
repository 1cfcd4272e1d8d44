// What goes wrong with servers and networks.
#include <thread>

#include "tests/hub/hub_test.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

class HubFaultTest : public HubTest {
 protected:
  void Expect(ErrorCode code, std::string_view message) {
    server_.Start();
    ExpectError(code, message, [&] { Download(); });
  }
};

TEST_F(HubFaultTest, GoesOnWhereAConnectionWasCut) {
  server_.AddFault({{"match", "cdn"}, {"times", 3}, {"cut", 3'000'000}});
  server_.Start();
  ExpectWhole(Download());
  std::vector<std::string> ranges;
  for (const Json& entry : Requests("cdn /")) ranges.push_back(entry.at("range"));
  EXPECT_THAT(ranges, testing::Contains("bytes=3000000-8388607"));
}

TEST_F(HubFaultTest, GoesOnWhereAServerFellSilent) {
  server_.AddFault({{"match", "cdn"}, {"times", 1}, {"stall", 20}});
  server_.Start();
  ExpectWhole(Download());
  EXPECT_EQ(Requests("cdn /").size(), 4u);
}

TEST_F(HubFaultTest, GivesUpOnACutThatBringsNothing) {
  server_.AddFault({{"match", "cdn"}, {"cut", 0}});
  Expect(ErrorCode::kIo, "gave up after 6 attempts");
  ExpectNoBlob(HubClient(server_.Settings(cache())).List(Name()).Find("config.json")->blob);
}

TEST_F(HubFaultTest, TakesServersThatIgnoreRanges) {
  server_.AddFault({{"match", "cdn"}, {"no_ranges", true}});
  server_.AddFault({{"match", "cdn"}, {"after", 1}, {"times", 1}, {"cut", 18'000'000}});
  server_.Start();
  ExpectWhole(Download());
}

TEST_F(HubFaultTest, RefusesWrongDigests) {
  server_.AddFault({{"match", "cdn"}, {"flip", 12'345'678}});
  Expect(ErrorCode::kCorruptInput, "large.safetensors: what arrived has not the digest");
  ExpectNoBlob(HubClient(server_.Settings(cache())).List(Name()).Find("config.json")->blob);
  EXPECT_FALSE(fs::exists(blobs() / "large.safetensors"));
}

TEST_F(HubFaultTest, RefusesWrongGitIds) {
  server_.AddFault({{"match", "resolve/.*/config.json"}, {"flip", 2}});
  Expect(ErrorCode::kCorruptInput, "config.json: what arrived has not the digest");
  ExpectNoBlob();
}

TEST_F(HubFaultTest, RefusesWrongLengths) {
  server_.AddFault({{"match", "resolve/.*/config.json"}, {"length", 7}});
  Expect(ErrorCode::kCorruptInput, "the list of files says 9 bytes, the answer has 16");
}

TEST_F(HubFaultTest, RefusesAnswersOfOtherRanges) {
  server_.AddFault({{"match", "cdn"}, {"range_off", 1}});
  Expect(ErrorCode::kCorruptInput, "asked for bytes from 0 on");
}

TEST_F(HubFaultTest, TakesNoMoreThanAFileHas) {
  server_.AddFault({{"match", "cdn|config.json"}, {"endless", true}});
  server_.Start();
  ExpectWhole(Download());
}

TEST_F(HubFaultTest, EndsListingsWithoutEnd) {
  server_.AddFault({{"match", "/tree/"}, {"endless", true}});
  Expect(ErrorCode::kCorruptInput, "no listing");
}

TEST_F(HubFaultTest, SaysWhatARefusalMeans) {
  const struct {
    int status;
    const char* code;
    const char* message;
  } kCases[] = {
      {401, "", "no such repository, or it is private or gated"},
      {401, "RepoNotFound", "no such repository, or it is private or gated"},
      {403, "GatedRepo", "access is restricted (status 403): ask for it on "},
      {404, "RepoNotFound", "not found on "},
      {404, "RevisionNotFound", "org/model: there is no revision \"main\""},
  };
  for (const auto& one : kCases) {
    HubServer server;
    Json headers = Json::object();
    if (*one.code != '\0') headers["X-Error-Code"] = one.code;
    server.AddFault({{"match", "/revision/"}, {"status", one.status}, {"headers", headers}});
    server.Start();
    const HubSettings settings = server.Settings(cache());
    ExpectError(ErrorCode::kNotFound, one.message, [&] { HubClient(settings).List(Name()); });
    EXPECT_EQ(server.Log().size(), 1u);  // trying again does not help
  }
}

TEST_F(HubFaultTest, NamesAMissingFile) {
  server_.AddFault({{"match", "/config.json"},
                    {"status", 404},
                    {"headers", {{"X-Error-Code", "EntryNotFound"}}}});
  Expect(ErrorCode::kNotFound, "there is no file \"config.json\"");
}

TEST_F(HubFaultTest, TriesAgainAfterPassingErrors) {
  for (const int status : {500, 502, 503, 429, 408}) {
    server_.AddFault({{"match", "."}, {"times", 1}, {"status", status}});
    server_.AddFault({{"match", "cdn"}, {"times", 1}, {"status", status}});
  }
  server_.Start();
  ExpectWhole(Download());
}

TEST_F(HubFaultTest, WaitsAsLongAsItIsAsked) {
  server_.AddFault({{"match", "/revision/"},
                    {"times", 1},
                    {"status", 429},
                    {"headers", {{"Retry-After", "1"}}}});
  server_.Start();
  const auto start = std::chrono::steady_clock::now();
  Download();
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(1000));
}

TEST_F(HubFaultTest, DoesNotWaitForever) {
  server_.AddFault(
      {{"match", "/revision/"}, {"status", 429}, {"headers", {{"Retry-After", "86400"}}}});
  Expect(ErrorCode::kIo, "asks to wait 86400 s");
}

TEST_F(HubFaultTest, GivesUpOnErrorsThatStay) {
  server_.AddFault({{"match", "/tree/"}, {"status", 503}});
  Expect(ErrorCode::kIo, "status 503; gave up after 6 attempts");
}

TEST_F(HubFaultTest, RefusesAFileThatIsShorterThanListed) {
  server_.AddFault({{"match", "cdn"}, {"status", 416}});
  Expect(ErrorCode::kCorruptInput, "the list of files says 20000000 bytes");
}

// A signed address that is too old is asked for again.
TEST_F(HubFaultTest, RenewsAddressesThatExpire) {
  server_.AddFault({{"match", "cdn"}, {"after", 1}, {"times", 1}, {"status", 403}});
  server_.Start();
  ExpectWhole(Download());
}

TEST_F(HubFaultTest, StaysWithTheCommitItBeganWith) {
  PutFile("config.json", "{\"b\": 2}\n", "v0");
  server_.AddFault({{"match", "/tree/"}, {"times", 1}, {"main", "v0"}});
  server_.Start();
  const HubSnapshot snapshot = Download();
  ExpectWhole(snapshot, "v1");
  EXPECT_EQ(ReadFile(cache() / "models--org--model/refs/main"), snapshot.listing().commit);
  ExpectWhole(Download(), "v0");
}

TEST_F(HubFaultTest, NoticesAnotherCommit) {
  server_.AddFault({{"match", "/resolve/"}, {"commit", std::string(40, 'a')}});
  Expect(ErrorCode::kCorruptInput, "the hub answered with \"aaaa");
}

TEST_F(HubFaultTest, WritesNothingOutsideOfTheSnapshot) {
  for (const char* path : {"../escape", "/tmp/escape", "a/../../escape", "a//b", ".", "a\\b",
                           "a/./b", "", "a\nb", "..", "a/"}) {
    HubServer server;
    server.Put("models/org/model/v1/config.json", "{}");
    server.AddFault({{"match", "/tree/"}, {"rename", {{"config.json", path}}}});
    server.Start();
    const HubSettings settings = server.Settings(cache());
    ExpectError(ErrorCode::kCorruptInput, "leads out of the directory or is no file name",
                [&] { Download(settings); });
    EXPECT_FALSE(fs::exists(cache())) << path;
  }
}

TEST_F(HubFaultTest, RefusesListingsThatAreNone) {
  const char* const kBodies[] = {
      "",
      "<html>",
      "{}",
      "[1]",
      "[{}]",
      R"([{"type": "file", "path": "a", "oid": "../../x", "size": 1}])",
      R"([{"type": "file", "path": "a", "oid": "29bae8a7bb62e37bdfb62b09ad7a5eb7b82ec74c",
           "size": -1}])",
      R"([{"type": "file", "path": "a", "oid": "29bae8a7bb62e37bdfb62b09ad7a5eb7b82ec74c",
           "size": 1, "lfs": {"oid": "x", "size": 1}}])",
      R"([{"type": "file", "path": "a", "oid": "29bae8a7bb62e37bdfb62b09ad7a5eb7b82ec74c",
           "size": 1},
          {"type": "file", "path": "a", "oid": "29bae8a7bb62e37bdfb62b09ad7a5eb7b82ec74c",
           "size": 1}])",
  };
  for (const char* body : kBodies) {
    HubServer server;
    server.Put("models/org/model/v1/config.json", "{}");
    server.AddFault({{"match", "/tree/"}, {"body", body}});
    server.Start();
    const HubSettings settings = server.Settings(cache());
    ExpectError(ErrorCode::kCorruptInput, "the list of files of org/model",
                [&] { HubClient(settings).List(Name()); });
  }
}

TEST_F(HubFaultTest, FollowsNoCircleAndNoOtherScheme) {
  for (const char* location : {"/api/models/org/model/revision/main", "file:///etc/passwd",
                               "gopher://127.0.0.1/x", "ftp://127.0.0.1/x"}) {
    HubServer server;
    server.AddFault(
        {{"match", "/revision/"}, {"status", 302}, {"headers", {{"Location", location}}}});
    server.Start();
    const HubSettings settings = server.Settings(cache());
    ExpectError(ErrorCode::kIo,
                *location == '/' ? "more than 10 redirects" : "address that is not followed",
                [&] { HubClient(settings).List(Name()); });
  }
}

TEST_F(HubFaultTest, SaysThatNoOneAnswers) {
  server_.Start();
  const HubSettings settings = server_.Settings(cache());
  server_.Stop();
  ExpectError(ErrorCode::kIo, "gave up after 6 attempts",
              [&] { HubClient(settings).List(Name()); });
}

TEST_F(HubFaultTest, NamesABlobThatWasChanged) {
  server_.Start();
  const HubSnapshot snapshot = Download();
  const std::string blob = snapshot.listing().Find("config.json")->blob;
  fs::resize_file(blobs() / blob, 3);
  ExpectError(ErrorCode::kCorruptInput, "has 3 bytes, the hub's config.json has 9",
              [&] { Download(); });
}

}  // namespace
}  // namespace narrow
