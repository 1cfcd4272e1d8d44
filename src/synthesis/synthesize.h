// Writes a checkpoint's worth of random weights without ever holding a tensor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/progress.h"
#include "synthesis/weights.h"

namespace narrow {

struct WeightFilesRequest {
  std::vector<TensorToFill> tensors;
  uint64_t seed = 0;
  int64_t max_shard_bytes = 5'000'000'000;
};

// Fills the tensors on all threads, a few megabytes of rows at a time, into the shards (and index)
// of a checkpoint in `directory`; one chunk is written while the next is made. Memory: two chunks
// of 16 MiB, or of one row where that is more, and a float for each column. The files are the same
// for any number of threads. Returns the bytes of all tensors. Throws: kInvalidArgument as
// PlanShards and WeightGenerator do, before anything is written; kIo; kInterrupted and kTerminated
// between chunks.
int64_t WriteWeightFiles(const WeightFilesRequest& request, const std::filesystem::path& directory,
                         ProgressSink& progress);

}  // namespace narrow
