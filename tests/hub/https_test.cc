// The client over TLS: whose certificates it takes, and what it sends where redirects lead.
#include <unistd.h>

#include "tests/hub/hub_test.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class HubHttpsTest : public HubTest {
 protected:
  void SetUp() override {
    HubTest::SetUp();
    if (IsSkipped()) return;
    if (::access("/usr/bin/openssl", X_OK) != 0) GTEST_SKIP() << "certificates need openssl";
    certificate_ = server_.UseTls();
    PutFile("model.safetensors", Bytes(20'000'000, 2));
  }
  // `narrow download`, which knows the authorities of `file` by that variable.
  CommandResult Run(const std::string& endpoint, const char* variable, const std::string& file) {
    CommandOptions options = server_.Options(cache());
    options.environment["HF_ENDPOINT"] = endpoint;
    options.environment["CURL_CA_BUNDLE"] = "";
    options.environment["SSL_CERT_FILE"] = "";
    options.environment[variable] = file;
    return RunNarrow({"download", kRepository}, options);
  }
  CommandResult Run(const std::string& endpoint) {
    return Run(endpoint, "SSL_CERT_FILE", certificate_);
  }
  CommandResult Run() { return Run(server_.endpoint()); }

  // A redirect of every request that matches.
  void Redirect(const std::string& match, const std::string& location) {
    server_.AddFault({{"match", match}, {"status", 302}, {"headers", {{"Location", location}}}});
  }
  void ExpectToken(const std::string& host) {
    const std::vector<Json> found = Requests(host + " /");
    EXPECT_THAT(found, Not(IsEmpty())) << host;
    for (const Json& one : found) {
      EXPECT_EQ(one.at("authorization"), "Bearer hf_of_the_tests") << one;
    }
  }
  void ExpectNoToken(const std::string& host) {
    const std::vector<Json> found = Requests(host + " /");
    EXPECT_THAT(found, Not(IsEmpty())) << host;
    for (const Json& one : found) EXPECT_TRUE(one.at("authorization").is_null()) << one;
  }

  std::string certificate_;
};

TEST_F(HubHttpsTest, KnowsTheAuthoritiesOfEitherVariable) {
  server_.Start();
  for (const char* variable : {"SSL_CERT_FILE", "CURL_CA_BUNDLE"}) {
    std::filesystem::remove_all(cache());
    server_.ClearLog();
    const CommandResult result = Run(server_.endpoint(), variable, certificate_);
    ASSERT_EQ(result.status, 0) << variable << result.error;
    EXPECT_TRUE(ReadFile(result.output.substr(0, result.output.size() - 1) +
                         "/model.safetensors") == Bytes(20'000'000, 2));
    ExpectToken("hub");
    ExpectNoToken("cdn");  // the same address, another port
  }
}

TEST_F(HubHttpsTest, RefusesCertificatesOfOthers) {
  server_.Start();
  HubServer other;
  other.Put("models/org/model/v1/config.json", "{}");
  const std::string of_another_name = other.UseTls("DNS:hub.example");
  other.Start();
  const auto expect_refused = [&](const HubServer& server, const std::string& known) {
    const CommandResult result = Run(server.endpoint(), "SSL_CERT_FILE", known);
    EXPECT_EQ(result.status, 6) << result.error;
    EXPECT_THAT(result.LastErrorLine(), HasSubstr("certificate"));
    EXPECT_THAT(result.error, Not(HasSubstr("attempts")));
    EXPECT_THAT(server.Log(), IsEmpty());
  };
  expect_refused(server_, "");  // the authorities of the system
  expect_refused(server_, of_another_name);
  expect_refused(other, of_another_name);
  EXPECT_FALSE(std::filesystem::exists(cache()));
}

TEST_F(HubHttpsTest, SendsNoTokenToAnotherHostOfTheSamePort) {
  Redirect("hub /api/.*/revision/", "https://localhost:{hub}/elsewhere");
  server_.Start();
  const CommandResult result = Run();
  EXPECT_NE(result.status, 0);
  int followed = 0;
  for (const Json& one : server_.Log()) {
    const bool endpoint = one.at("to").get<std::string>().starts_with("127.0.0.1:");
    followed += endpoint ? 0 : 1;
    EXPECT_EQ(one.at("authorization").is_null(), !endpoint) << one;
  }
  EXPECT_EQ(followed, 1);
}

TEST_F(HubHttpsTest, SendsNoTokenFromHttpToHttps) {
  Redirect("plain /", "https://127.0.0.1:{hub}{path}");
  server_.Start();
  const CommandResult result = Run(server_.plain_endpoint());
  ASSERT_EQ(result.status, 0) << result.error;
  ExpectToken("plain");
  ExpectNoToken("hub");
  ExpectNoToken("cdn");
}

TEST_F(HubHttpsTest, FollowsNoRedirectToHttp) {
  Redirect("cdn /", "http://127.0.0.1:{plain}{path}");
  server_.Start();
  const CommandResult result = Run();
  EXPECT_EQ(result.status, 6) << result.error;
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("leads to an address that is not followed"));
  EXPECT_THAT(result.error, Not(HasSubstr("signature")));
  EXPECT_THAT(Requests("cdn "), Not(IsEmpty()));
  EXPECT_THAT(Requests("plain "), IsEmpty());
}

}  // namespace
}  // namespace narrow
