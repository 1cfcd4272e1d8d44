// What vLLM 0.32 computed of these members, with its losses in float32: the goldens tiny-cohere and
// tiny-ministral3 as they are were off transformers' by 0.009 and 0.011 nats, and by less than
// 0.0001 with the members that the sentences name.
#include "model/served_otherwise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::Optional;

TEST(ServedOtherwiseTest, AnEpsilonOfRmsNormsMakesCohereAnotherModel) {
  for (const char* architecture : {"CohereForCausalLM", "Cohere2ForCausalLM"}) {
    const Json config = ParseJson(R"({"layer_norm_eps": 1e-5, "rms_norm_eps": 1e-5})", "json");
    EXPECT_THAT(ServedOtherwise(config, architecture, "config.json"),
                Optional(HasSubstr("config.json has \"rms_norm_eps\"")));
    const Json null = ParseJson(R"({"layer_norm_eps": 1e-5, "rms_norm_eps": null})", "json");
    EXPECT_EQ(ServedOtherwise(null, architecture, "config.json"), std::nullopt);
  }
  const Json llama = ParseJson(R"({"rms_norm_eps": 1e-5})", "json");
  EXPECT_EQ(ServedOtherwise(llama, "LlamaForCausalLM", "config.json"), std::nullopt);
}

TEST(ServedOtherwiseTest, QueriesOfMinistral3AreScaledWhereAMemberOfVllmSaysSo) {
  const auto of = [](const char* text) {
    return ServedOtherwise(ParseJson(text, "json"), "Ministral3ForCausalLM", "config.json");
  };
  EXPECT_THAT(of(R"({"rope_parameters": {"llama_4_scaling_beta": 0.1,
                                         "original_max_position_embeddings": 16384}})"),
              Optional(HasSubstr("\"llama_4_scaling\": {\"beta\": 0.1, "
                                 "\"original_max_position_embeddings\": 16384}")));
  EXPECT_EQ(of(R"({"rope_parameters": {"llama_4_scaling_beta": 0.1,
                                       "original_max_position_embeddings": 16384},
                   "llama_4_scaling": {"beta": 0.1, "original_max_position_embeddings": 16384}})"),
            std::nullopt);
  EXPECT_EQ(of(R"({"rope_parameters": {"rope_type": "default"}})"), std::nullopt);
  EXPECT_EQ(of("{}"), std::nullopt);
}

}  // namespace
}  // namespace narrow
