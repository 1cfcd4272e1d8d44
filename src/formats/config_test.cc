#include "formats/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace narrow {
namespace {

QuantizedCheckpointDescription Description() {
  QuantizedCheckpointDescription description;
  description.model_dtype = "bfloat16";
  description.excluded_linears = {"lm_head"};
  return description;
}

std::string Render(std::string_view source) {
  return QuantizedConfig(ParseJson(source, "source"), FindExportFormat("fp8"), Description())
      .dump();
}

ErrorCode CodeOf(std::string_view source) {
  try {
    Render(source);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kInternal;
}

void ExpectSorted(const Json& value) {
  if (value.is_object()) {
    std::string previous;
    for (const auto& [key, member] : value.items()) {
      EXPECT_LT(previous, key);
      previous = key;
    }
  }
  for (const Json& member : value) {
    if (member.is_structured()) ExpectSorted(member);
  }
}

TEST(QuantizedConfig, SortsKeysOnEveryLevelAndKeepsValues) {
  const Json config =
      QuantizedConfig(ParseJson(R"({"vocab_size":512,"rope_scaling":{"type":"linear","factor":2.0},
                    "eos_token_id":[3,2],"rms_norm_eps":1e-05,"dtype":"float16"})",
                                "source"),
                      FindExportFormat("quark"), Description());
  ExpectSorted(config);
  Json rest = config;
  rest.erase("quantization_config");
  EXPECT_EQ(rest.dump(), R"({"dtype":"float16","eos_token_id":[3,2],"rms_norm_eps":1e-05,)"
                         R"("rope_scaling":{"factor":2.0,"type":"linear"},"vocab_size":512})");
}

TEST(QuantizedConfig, AddsADtypeOnlyWhereTheSourceHasNone) {
  EXPECT_THAT(Render(R"({"torch_dtype":"float32"})"),
              testing::AllOf(testing::HasSubstr(R"("torch_dtype":"float32")"),
                             testing::Not(testing::HasSubstr("bfloat16"))));
  EXPECT_THAT(Render(R"({"dtype":"float32"})"), testing::Not(testing::HasSubstr("torch_dtype")));
  EXPECT_THAT(Render("{}"), testing::HasSubstr(R"("torch_dtype":"bfloat16")"));
  EXPECT_THAT(Render(R"({"torch_dtype":null})"), testing::HasSubstr(R"("torch_dtype":"bfloat16")"));
}

TEST(QuantizedConfig, ReplacesWhatIsNoNameOfAType) {
  EXPECT_THAT(Render(R"({"dtype":"auto"})"), testing::HasSubstr(R"("dtype":"bfloat16")"));
  EXPECT_THAT(Render(R"({"torch_dtype":"torch.float16"})"),
              testing::HasSubstr(R"("torch_dtype":"bfloat16")"));
  EXPECT_THAT(Render(R"({"dtype":null,"torch_dtype":null})"),
              testing::AllOf(testing::HasSubstr(R"("dtype":"bfloat16")"),
                             testing::Not(testing::HasSubstr("torch_dtype"))));
}

TEST(QuantizedConfig, NamesTheArchitectureWhereTheSourceDoesNot) {
  QuantizedCheckpointDescription description = Description();
  description.architecture = "LlamaForCausalLM";
  for (const char* source : {"{}", R"({"architectures":null})", R"({"architectures":[]})"}) {
    EXPECT_EQ(QuantizedConfig(ParseJson(source, "source"), FindExportFormat("fp8"),
                              description)["architectures"],
              Json::array({"LlamaForCausalLM"}));
  }
  EXPECT_EQ(QuantizedConfig(ParseJson(R"({"architectures":["Own"]})", "source"),
                            FindExportFormat("fp8"), description)["architectures"],
            Json::array({"Own"}));
}

TEST(QuantizedConfig, RefusesAQuantizedSource) {
  EXPECT_EQ(CodeOf(R"({"quantization_config":{"quant_method":"gptq"}})"), ErrorCode::kUnsupported);
  EXPECT_EQ(CodeOf(R"({"compression_config":{}})"), ErrorCode::kUnsupported);
  EXPECT_EQ(CodeOf("[]"), ErrorCode::kCorruptInput);
  EXPECT_THAT(Render(R"({"quantization_config":null})"), testing::HasSubstr(R"("fp8"})"));
}

}  // namespace
}  // namespace narrow
