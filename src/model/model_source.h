// A checkpoint directory opened for a job: config, family, weights and tokenizer that agree.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "model/family.h"
#include "tensor/compute_type.h"
#include "text/tokenizer.h"

namespace narrow {

struct ModelSource {
  std::unique_ptr<CheckpointReader> checkpoint;
  const ModelFamily* family = nullptr;
  DecoderConfig config;               // with the head as the stored tensors settle it
  std::vector<std::string> warnings;  // about the directory, a sentence each
};

// Which factors a longrope model rotates by, in every text: those that vLLM serves by default, or
// those of texts within, or beyond, the original length.
enum class RopeFactors { kServed, kShort, kLong };

// What config.json alone says of a model.
struct DescribedModel {
  const ModelFamily* family = nullptr;
  DecoderConfig config;  // of a multimodal model's language part, with the names of a decoder alone
  bool multimodal = false;
};
// `config`: config.json, which `what` names in messages. Throws: as LanguagePart, FindModelFamily
// and ModelFamily::parse_config.
DescribedModel DescribeModel(const Json& config, const std::string& what);
// config.json without the block of schemes that it states, if it does.
Json WithoutStatedSchemes(const Json& config);

// Opens an unquantized checkpoint, or, when `weights` allows it, an FP8 one. Everything is checked
// before any work. Throws: as CheckpointReader, FindModelFamily, SettleHead, CheckWeights and
// CheckScaleValues do; kInvalidArgument for factors that a model has not.
ModelSource OpenModel(const std::filesystem::path& directory, WeightState weights,
                      RopeFactors factors = RopeFactors::kServed);

// The same for a checkpoint whose weights lie elsewhere than in its directory.
ModelSource OpenModel(CheckpointFiles files, WeightState weights,
                      RopeFactors factors = RopeFactors::kServed);

// "short" or "long", where the model is a longrope one; "" otherwise.
std::string RopeFactorsInUse(const DecoderConfig& config);

// It comes with scales of an FP8 KV cache: in the first layer, hence in all (CheckWeights).
// REQUIRES: it has a checkpoint.
bool HasFloat8Cache(const ModelSource& model);

// What --data_type asks for.
enum class DataType { kAuto, kBfloat16, kFloat32 };

// bf16 products where the CPU has them, unless float32 was asked for. Throws: kUnsupported when
// bfloat16 was asked for and the CPU cannot.
ComputeType ChooseComputeType(DataType data_type);

}  // namespace narrow
