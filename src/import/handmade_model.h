// For tests of the import: a model made by hand that tests can bend.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/gguf_builder.h"

namespace narrow {

// One layer, hidden 4, 1 head of 4, FFN 2, vocabulary 4.
struct HandmadeModel {
  std::map<std::string, std::function<void(GgufBuilder&, const std::string&)>> pairs;
  struct Tensor {
    std::vector<uint64_t> dimensions;
    GgufType type = GgufType::kF32;
    std::string bytes;
  };
  std::map<std::string, Tensor> tensors;

  HandmadeModel() {
    Text("general.architecture", "llama");
    Int("llama.block_count", 1);
    Int("llama.context_length", 16);
    Int("llama.embedding_length", 4);
    Int("llama.feed_forward_length", 2);
    Int("llama.attention.head_count", 1);
    Number("llama.attention.layer_norm_rms_epsilon", 1e-6f);
    Text("tokenizer.ggml.model", "gpt2");
    Text("tokenizer.ggml.pre", "smollm");
    Texts("tokenizer.ggml.tokens", {"a", "b", "ab", "<e>"});
    Ints("tokenizer.ggml.token_type", {1, 1, 1, 3});
    Texts("tokenizer.ggml.merges", {"a b"});
    Int("tokenizer.ggml.eos_token_id", 3);
    F32("token_embd.weight", {4, 4});
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
      F32(fmt::format("blk.0.{}.weight", name), {4, 4});
    }
    F32("blk.0.ffn_gate.weight", {4, 2});
    F32("blk.0.ffn_up.weight", {4, 2});
    F32("blk.0.ffn_down.weight", {2, 4});
    for (const char* name : {"blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"}) {
      F32(fmt::format("{}.weight", name), {4});
    }
  }

  HandmadeModel& Text(const std::string& key, const std::string& value) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.Text(k, value); };
    return *this;
  }
  HandmadeModel& Int(const std::string& key, uint32_t value) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.U32(k, value); };
    return *this;
  }
  HandmadeModel& Number(const std::string& key, float value) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.F32(k, value); };
    return *this;
  }
  HandmadeModel& Bool(const std::string& key, uint8_t value) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.Bool(k, value); };
    return *this;
  }
  HandmadeModel& Texts(const std::string& key, const std::vector<std::string>& values) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.Texts(k, values); };
    return *this;
  }
  HandmadeModel& Ints(const std::string& key, const std::vector<int32_t>& values) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.Numbers(k, values); };
    return *this;
  }
  HandmadeModel& Floats(const std::string& key, const std::vector<float>& values) {
    pairs[key] = [=](GgufBuilder& b, const std::string& k) { b.Numbers(k, values); };
    return *this;
  }
  HandmadeModel& Without(const std::string& name) {
    EXPECT_EQ(pairs.erase(name) + tensors.erase(name), 1u) << name;
    return *this;
  }
  HandmadeModel& F32(const std::string& name, const std::vector<uint64_t>& dimensions,
                     std::vector<float> values = {}) {
    std::size_t count = 1;
    for (const uint64_t dimension : dimensions) count *= dimension;
    for (std::size_t i = values.size(); i < count; ++i) values.push_back(static_cast<float>(i));
    std::string bytes(count * sizeof(float), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    tensors[name] = {dimensions, GgufType::kF32, bytes};
    return *this;
  }
  HandmadeModel& Raw(const std::string& name, const std::vector<uint64_t>& dimensions,
                     GgufType type, std::size_t bytes) {
    tensors[name] = {dimensions, type, std::string(bytes, '\0')};
    return *this;
  }

  std::string Build() const {
    GgufBuilder builder;
    for (const auto& [key, add] : pairs) add(builder, key);
    for (const auto& [name, tensor] : tensors) {
      builder.Tensor(name, tensor.dimensions, tensor.type, tensor.bytes);
    }
    return builder.Build();
  }
};

// Sixteen rows long enough for the blocks of a bias: heads of 32.
inline HandmadeModel WithBiases() {
  HandmadeModel model;
  model.Int("llama.attention.key_length", 32);
  for (const char* name : {"attn_q", "attn_k", "attn_v"}) {
    model.F32(fmt::format("blk.0.{}.weight", name), {4, 32})
        .F32(fmt::format("blk.0.{}.bias", name), {32});
  }
  return model.F32("blk.0.attn_output.weight", {32, 4}).F32("blk.0.attn_output.bias", {4});
}

}  // namespace narrow
