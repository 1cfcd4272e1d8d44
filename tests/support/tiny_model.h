// Random Llama checkpoints of a few kilobytes in every layout the program reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace narrow {

struct TinyModel {
  enum class Spelling { kTransformers4, kTransformers5 };  // of config.json
  enum class Rope { kDefault, kLinear, kLlama3 };
  enum class Presence { kAbsent, kPresent };

  int64_t layers = 2;
  int64_t hidden = 64;
  int64_t intermediate = 96;
  int64_t heads = 4;
  int64_t key_value_heads = 2;
  int64_t head_size = 16;
  int64_t vocabulary = 258;  // of ByteTokenizer()
  Dtype dtype = Dtype::kBF16;
  Spelling spelling = Spelling::kTransformers4;
  Rope rope = Rope::kDefault;
  Presence lm_head = Presence::kPresent;  // absent: tied to the embedding
  Presence attention_bias = Presence::kAbsent;
  Presence mlp_bias = Presence::kAbsent;
  int64_t shards = 1;
  uint64_t seed = 1;
};

struct TinyTensor {
  std::string name;
  Dtype dtype = Dtype::kF32;
  Shape shape;
  std::string bytes;  // little endian
};

// The weights, which depend on the shape of the model and its seed only: the same values whatever
// the spelling and the number of files, rounded to the dtype.
std::vector<TinyTensor> TinyTensors(const TinyModel& model);
// The tensor of that name. REQUIRES: there is one.
TinyTensor& FindTensor(std::vector<TinyTensor>& tensors, std::string_view name);
// Replaces one element. REQUIRES: the tensor is BF16 or F32.
void SetElement(TinyTensor& tensor, int64_t index, float value);

Json TinyConfig(const TinyModel& model);

// tokenizer.json: one token per byte, then <|begin|> (256), put before every text, and <|end|>
// (257).
std::string ByteTokenizer();

// A safetensors file of a header and the bytes after it, whatever they say.
std::string SafetensorsFile(std::string_view header, std::string_view data);
// One that is right.
std::string SafetensorsFile(const std::vector<TinyTensor>& tensors);

// The tensors in `shards` files, in turn, with an index if there is more than one.
void WriteWeights(const std::filesystem::path& directory, const std::vector<TinyTensor>& tensors,
                  int64_t shards);
// A complete checkpoint: weights, config, tokenizer, tokenizer_config.json, generation_config.json
// and LICENSE. The directory is made.
void WriteTinyModel(const std::filesystem::path& directory, const TinyModel& model);

void WriteFile(const std::filesystem::path& path, std::string_view contents);
std::string ReadFile(const std::filesystem::path& path);

}  // namespace narrow
