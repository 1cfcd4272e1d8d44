// What a config.json means, against transformers (tests/golden/llama_config.json), and what is
// refused.
#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>

#include "base/error.h"
#include "model/family.h"
#include "model/reference.h"

namespace narrow {
namespace {

DecoderConfig Parse(const Json& config) {
  return FindModelFamily(config, "config.json").parse_config(config, "config.json");
}

void ExpectSameRope(const RopeConfig& rope, const Json& expected) {
  const auto kind = expected["rope_type"].get<std::string>();
  EXPECT_EQ(rope.kind, kind == "linear"   ? RopeConfig::Kind::kLinear
                       : kind == "llama3" ? RopeConfig::Kind::kLlama3
                                          : RopeConfig::Kind::kDefault);
  EXPECT_EQ(rope.theta, expected["rope_theta"].get<double>());
  if (kind == "default") return;
  EXPECT_EQ(rope.factor, expected["factor"].get<double>());
  if (kind == "linear") return;
  EXPECT_EQ(rope.low_frequency_factor, expected["low_freq_factor"].get<double>());
  EXPECT_EQ(rope.high_frequency_factor, expected["high_freq_factor"].get<double>());
  EXPECT_EQ(rope.original_positions, expected["original_max_position_embeddings"].get<double>());
}

TEST(LlamaConfig, IsReadAsTransformersReadsIt) {
  const Json reference = ReadReference("llama_config.json");
  for (const Json& example : reference["cases"]) {
    SCOPED_TRACE(example["config"].dump());
    const DecoderConfig config = Parse(example["config"]);
    const Json& read = example["read"];
    EXPECT_EQ(config.vocabulary, read["vocab_size"]);
    EXPECT_EQ(config.hidden, read["hidden_size"]);
    EXPECT_EQ(config.intermediate, read["intermediate_size"]);
    EXPECT_EQ(config.layers, read["num_hidden_layers"]);
    EXPECT_EQ(config.heads.query_heads, read["num_attention_heads"]);
    EXPECT_EQ(config.heads.key_value_heads, read["num_key_value_heads"]);
    EXPECT_EQ(config.heads.head_size, read["head_dim"]);
    EXPECT_EQ(config.max_positions, read["max_position_embeddings"]);
    EXPECT_EQ(config.norm_epsilon, read["rms_norm_eps"].get<float>());
    EXPECT_EQ(config.query_key_value_bias == Bias::kPresent, read["attention_bias"].get<bool>());
    EXPECT_EQ(config.attention_output_bias, config.query_key_value_bias);
    EXPECT_EQ(config.mlp_bias == Bias::kPresent, read["mlp_bias"].get<bool>());
    EXPECT_EQ(config.lm_head == DecoderConfig::LmHead::kTied,
              read["tie_word_embeddings"].get<bool>());
    ExpectSameRope(config.rope, read["rope_parameters"]);
  }
}

struct Refusal {
  const char* change;  // members of a good config that are replaced
  ErrorCode code;
  const char* names;  // what the message has to hold
};

constexpr Refusal kRefusals[] = {
    {R"({"architectures": ["NoSuchForCausalLM"], "model_type": "no_such"})",
     ErrorCode::kUnsupported, "NoSuchForCausalLM"},
    {R"({"hidden_act": "relu6"})", ErrorCode::kUnsupported, "relu6"},
    {R"({"quantization_config": {"quant_method": "gptq"}})", ErrorCode::kUnsupported,
     "quantization_config"},
    {R"({"dtype": "float8_e5m2"})", ErrorCode::kUnsupported, "float8_e5m2"},
    {R"({"rope_scaling": {"rope_type": "no_such_rope", "factor": 2.0}})", ErrorCode::kUnsupported,
     "no_such_rope"},
    {R"({"rope_scaling": {"rope_type": "linear"}})", ErrorCode::kCorruptInput, "factor"},
    {R"({"rope_scaling": {"rope_type": "linear", "factor": 0}})", ErrorCode::kCorruptInput,
     "factor"},
    {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
         "high_freq_factor": 1.0, "original_max_position_embeddings": 8192}})",
     ErrorCode::kCorruptInput, "high_freq_factor"},
    {R"({"rope_scaling": {"rope_type": "linear", "type": "llama3", "factor": 2.0}})",
     ErrorCode::kUnsupported, "rope_type"},
    {R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})",
     ErrorCode::kUnsupported, "full_attention"},
    {R"({"partial_rotary_factor": 0.5})", ErrorCode::kUnsupported, "partial_rotary_factor"},
    {R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}})",
     ErrorCode::kUnsupported, "partial_rotary_factor"},
    {R"({"original_max_position_embeddings": 4096, "rope_scaling": {"rope_type": "llama3",
         "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8192}})",
     ErrorCode::kUnsupported, "original_max_position_embeddings"},
    {R"({"architectures": null, "model_type": null})", ErrorCode::kCorruptInput, "model_type"},
    {R"({"architectures": null, "model_type": "no_such"})", ErrorCode::kUnsupported, "no_such"},
    {R"({"architectures": ["LlamaForCausalLM", "Other"]})", ErrorCode::kCorruptInput,
     "architectures"},
    {R"({"torch_dtype": 16})", ErrorCode::kCorruptInput, "torch_dtype"},
    {R"({"rope_theta": -1})", ErrorCode::kCorruptInput, "rope_theta"},
    {R"({"num_key_value_heads": 4})", ErrorCode::kCorruptInput, "key-value heads"},
    {R"({"num_key_value_heads": 0})", ErrorCode::kCorruptInput, "key-value heads"},
    {R"({"head_dim": 17})", ErrorCode::kCorruptInput, "head_dim"},
    {R"({"num_attention_heads": 7})", ErrorCode::kCorruptInput, "num_attention_heads"},
    {R"({"hidden_size": 0})", ErrorCode::kCorruptInput, "hidden_size"},
    {R"({"vocab_size": "many"})", ErrorCode::kCorruptInput, "vocab_size"},
    {R"({"intermediate_size": 1e300})", ErrorCode::kCorruptInput, "intermediate_size"},
    {R"({"num_hidden_layers": null})", ErrorCode::kCorruptInput, "num_hidden_layers"},
    {R"({"tie_word_embeddings": "yes"})", ErrorCode::kCorruptInput, "tie_word_embeddings"},
};

void ExpectRefusals(const Json& good, std::span<const Refusal> refusals) {
  for (const Refusal& refusal : refusals) {
    SCOPED_TRACE(refusal.change);
    Json config = good;
    config.update(ParseJson(refusal.change, "a change"));
    try {
      Parse(config);
      ADD_FAILURE() << "not refused";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), refusal.code) << error.what();
      EXPECT_THAT(error.what(), testing::HasSubstr(refusal.names));
    }
  }
}

TEST(LlamaConfig, WhatCannotBeRightIsRefusedByName) {
  ExpectRefusals(ReadReference("llama_config.json")["cases"][0]["config"], kRefusals);
}

Json GoodQwen2() {
  return ParseJson(R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
    "vocab_size": 300, "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2})",
                   "config.json");
}

// Defaults of transformers' Qwen2Config, and the biases of its Qwen2Attention and Qwen2MLP.
TEST(Qwen2Config, DefaultsAndBiasesAreThoseOfTransformers) {
  Json json = GoodQwen2();
  // As Qwen2.5 checkpoints have it: a window that is not used.
  json.update({{"use_sliding_window", false}, {"sliding_window", 131072}});
  json["max_window_layers"] = 1;
  json["attention_bias"] = false;  // no member of this family
  const DecoderConfig config = Parse(json);
  EXPECT_EQ(config.max_positions, 32768);
  EXPECT_EQ(config.norm_epsilon, 1e-6f);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.heads.head_size, 16);
  EXPECT_EQ(config.lm_head, DecoderConfig::LmHead::kOwn);
  for (const LinearSpec& linear : FindModelFamily(json, "it").layer(config, 2).linears) {
    EXPECT_EQ(linear.bias == Bias::kPresent, linear.group == LinearGroup::kQueryKeyValue)
        << linear.module;
  }
  json["num_key_value_heads"] = nullptr;
  EXPECT_EQ(Parse(json).heads.key_value_heads, 6);
  json.erase("num_key_value_heads");
  json.update({{"num_attention_heads", 64}, {"hidden_size", 1024}});
  EXPECT_EQ(Parse(json).heads.key_value_heads, 32);
}

constexpr Refusal kQwen2Refusals[] = {
    {R"({"use_sliding_window": true})", ErrorCode::kUnsupported, "window of 4096 tokens"},
    {R"({"use_sliding_window": true, "sliding_window": 512})", ErrorCode::kUnsupported,
     "window of 512 tokens"},
    {R"({"layer_types": ["full_attention", "sliding_attention", "full_attention"]})",
     ErrorCode::kUnsupported, "sliding_attention"},
    {R"({"is_causal": false})", ErrorCode::kUnsupported, "is_causal"},
    {R"({"dual_chunk_attention_config": {"chunk_size": 262144}})", ErrorCode::kUnsupported,
     "dual_chunk_attention_config"},
    {R"({"head_dim": 32})", ErrorCode::kUnsupported, "head_dim"},
    {R"({"partial_rotary_factor": 0.5})", ErrorCode::kUnsupported, "Qwen2 does"},
    {R"({"rope_scaling": {"type": "yarn", "factor": 4.0}})", ErrorCode::kCorruptInput,
     "max_position_embeddings"},
    {R"({"num_key_value_heads": 4})", ErrorCode::kCorruptInput, "key-value heads"},
};

TEST(Qwen2Config, WhatWouldNotBeComputedIsRefusedByName) {
  ExpectRefusals(GoodQwen2(), kQwen2Refusals);
}

TEST(LlamaConfig, WhatIsNoNameOfATypeLeavesItToTheWeights) {
  const Json good = ReadReference("llama_config.json")["cases"][0]["config"];
  const auto parse = [&](const char* change) {
    Json config = good;
    config.update(ParseJson(change, "a change"));
    return Parse(config);
  };
  for (const char* change :
       {"{}", R"({"dtype": null})", R"({"torch_dtype": null})", R"({"dtype": "auto"})",
        R"({"torch_dtype": "torch.bfloat16"})", R"({"dtype": null, "torch_dtype": "auto"})"}) {
    EXPECT_FALSE(parse(change).dtype_stated) << change;
  }
  for (const char* change :
       {R"({"dtype": "float16"})", R"({"dtype": null, "torch_dtype": "float16"})",
        R"({"dtype": "float16", "torch_dtype": "float32"})"}) {
    EXPECT_TRUE(parse(change).dtype_stated) << change;
    EXPECT_EQ(parse(change).dtype, Dtype::kF16) << change;
  }
}

}  // namespace
}  // namespace narrow
