// Writes a sharded safetensors checkpoint whose tensors are all known in advance, in any order, so
// that a layer can be written and forgotten while the next one is computed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"
#include "io/safetensors.h"
#include "io/traffic.h"

namespace narrow {

// Which tensor goes into which file, decided before anything is written. Tensors keep the order
// they are given in; a shard is closed when the next tensor would pass the limit. One shard is
// called "model.safetensors" and has no index; more are "model-00001-of-00003.safetensors" and so
// on.
struct ShardPlan {
  struct Shard {
    std::string file_name;
    SafetensorsLayout layout;
  };
  std::vector<Shard> shards;
  int64_t total_tensor_bytes = 0;
};
// Throws: kInvalidArgument on a duplicate name or max_shard_bytes <= 0.
ShardPlan PlanShards(std::vector<TensorSpec> tensors, int64_t max_shard_bytes);

// Creates the files of a plan in `directory`. A shard is opened at its first tensor and closed (and
// fsynced) at its last. Thread-compatible.
class CheckpointWriter {
 public:
  CheckpointWriter(std::filesystem::path directory, ShardPlan plan);
  ~CheckpointWriter();

  // Writes one tensor whole. Throws: kIo; kInternal when the name is not in the plan, was already
  // written, or has another size.
  void Write(std::string_view name, std::span<const std::byte> bytes);
  // Writes bytes of a tensor from `offset`; the tensor is complete when all its bytes were given,
  // in order.
  void WritePart(std::string_view name, int64_t offset, std::span<const std::byte> bytes);
  // Makes everything written so far durable.
  void Flush();
  // For a run that continues in the directory of an earlier one: the tensor was completed then.
  void AssumeWritten(std::string_view name);
  // Writes the index (if there is more than one shard). Throws: kInternal naming a tensor that was
  // never completed; kIo.
  void Finish();
  // Bytes of tensors written so far; the time includes making files durable.
  Traffic traffic() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace narrow
