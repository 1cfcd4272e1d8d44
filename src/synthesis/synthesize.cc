#include "synthesis/synthesize.h"

#include <algorithm>
#include <array>
#include <future>
#include <utility>

#include "base/checked_math.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "io/checkpoint_writer.h"
#include "tensor/tensor.h"

namespace narrow {
namespace {

constexpr int64_t kChunkBytes = int64_t{16} << 20;  // made at a time, by all threads
constexpr int64_t kBlockBytes = int64_t{1} << 18;   // made at a time by one of them

// As many whole rows as fit `bytes`, at least one and at most all.
int64_t RowsWithin(int64_t bytes, const WeightGenerator& generator) {
  const int64_t row_bytes = generator.columns() * ElementBytes(Dtype::kBF16);
  return std::clamp<int64_t>(bytes / row_bytes, 1, generator.rows());
}

void FillRows(const WeightGenerator& generator, int64_t first, MatrixView<Bfloat16> rows) {
  const int64_t block_rows = RowsWithin(kBlockBytes, generator);
  const auto fill_block = [&](int64_t block) {
    const int64_t end = std::min(rows.rows, (block + 1) * block_rows);
    for (int64_t row = block * block_rows; row < end; ++row) {
      generator.FillRow(first + row, rows.RowSpan(row));
    }
  };
  const int64_t blocks = DivideRoundUp(rows.rows, block_rows);
  if (blocks == 1) return fill_block(0);  // waking the other threads would take longer
  ParallelFor(blocks, fill_block);
}

// Hands chunks to the writer in order, one behind the one being made.
class ChunkWriter {
 public:
  ChunkWriter(const std::filesystem::path& directory, ShardPlan plan)
      : writer_(directory, std::move(plan)) {}

  // Memory for the next chunk; stays untouched by the chunk that is being written.
  Bfloat16* Prepare(int64_t elements) {
    AlignedBuffer<Bfloat16>& buffer = buffers_[next_];
    if (buffer.size() < elements) {
      buffer = {};
      buffer = AlignedBuffer<Bfloat16>(elements);
    }
    return buffer.data();
  }

  // Starts to write what is in the prepared memory.
  void Write(const std::string& name, int64_t offset, int64_t elements) {
    Wait();
    const auto bytes =
        std::as_bytes(buffers_[next_].span().first(static_cast<std::size_t>(elements)));
    pending_ = std::async(std::launch::async,
                          [this, name, offset, bytes] { writer_.WritePart(name, offset, bytes); });
    next_ = 1 - next_;
  }

  void Finish() {
    Wait();
    writer_.Finish();
  }

 private:
  void Wait() {
    if (pending_.valid()) pending_.get();
  }

  CheckpointWriter writer_;
  std::array<AlignedBuffer<Bfloat16>, 2> buffers_;
  std::size_t next_ = 0;
  std::future<void> pending_;  // the last member: its destructor waits while the others still exist
};

}  // namespace

int64_t WriteWeightFiles(const WeightFilesRequest& request, const std::filesystem::path& directory,
                         ProgressSink& progress) {
  std::vector<TensorSpec> specs;
  for (const TensorToFill& tensor : request.tensors) {
    CheckTensorToFill(tensor);
    specs.push_back(tensor.spec);
  }
  ShardPlan plan = PlanShards(std::move(specs), request.max_shard_bytes);
  const int64_t total_bytes = plan.total_tensor_bytes;
  ChunkWriter writer(directory, std::move(plan));
  progress.BeginPhase("Writing weights", total_bytes, "bytes");
  for (const TensorToFill& tensor : request.tensors) {
    const WeightGenerator generator(tensor, request.seed);
    const int64_t row_bytes = generator.columns() * ElementBytes(Dtype::kBF16);
    const int64_t chunk_rows = RowsWithin(kChunkBytes, generator);
    for (int64_t first = 0; first < generator.rows(); first += chunk_rows) {
      ThrowIfStopRequested("nothing is left behind; the same command starts again");
      const int64_t rows = std::min(chunk_rows, generator.rows() - first);
      const int64_t elements = rows * generator.columns();
      Bfloat16* const memory = writer.Prepare(elements);
      FillRows(generator, first, {memory, rows, generator.columns()});
      writer.Write(tensor.spec.name, first * row_bytes, elements);
      progress.Advance(rows * row_bytes);
    }
  }
  writer.Finish();
  progress.EndPhase();
  return total_bytes;
}

}  // namespace narrow
