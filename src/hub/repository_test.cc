#include "hub/repository.h"

#include <gtest/gtest.h>

#include <string>

namespace narrow {
namespace {

TEST(Repository, KnowsNamesOfTheHub) {
  // As validate_repo_id of huggingface_hub 2.4 says.
  for (const char* name : {"gpt2", "org/name", "a-b/c_d.e-f", "123/4", "a/_b"}) {
    EXPECT_TRUE(IsHubName(name)) << name;
  }
  for (const char* name : {"", "a/b/c", "/a", "a/", "-a", "a.", ".a", "a--b", "a..b", "a b",
                           "a/b.git", "a/b\n", "a/\xc3\xa9", "./a", "~/a"}) {
    EXPECT_FALSE(IsHubName(name)) << name;
  }
  EXPECT_TRUE(IsHubName(std::string(96, 'a')));
  EXPECT_FALSE(IsHubName(std::string(97, 'a')));
}

}  // namespace
}  // namespace narrow
