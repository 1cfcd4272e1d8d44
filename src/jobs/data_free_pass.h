// Reads a checkpoint once, from front to back, and writes what the plan makes of it, piece by
// piece: while one is encoded, the next is read and the last one written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "base/progress.h"
#include "io/checkpoint_reader.h"
#include "io/checkpoint_writer.h"
#include "jobs/data_free_plan.h"

namespace narrow {

struct DataFreePassOptions {
  int64_t max_shard_bytes = 0;
  int64_t items_done = 0;  // by an earlier run in the same directory
  double save_interval_seconds = 60;
  std::function<void(int64_t items_done)> save;  // these are on the disk
};

// Throws: kIo, kNumeric for NaN and infinity in what is quantized, and as a stop request says.
void RunDataFreePass(const CheckpointReader& checkpoint, const DataFreePlan& plan,
                     const std::filesystem::path& directory, const DataFreePassOptions& options,
                     ProgressSink& progress);

}  // namespace narrow
