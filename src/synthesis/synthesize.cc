#include "synthesis/synthesize.h"

#include <algorithm>
#include <array>
#include <future>
#include <optional>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "formats/stored_schemes.h"
#include "io/checkpoint_writer.h"
#include "schemes/weight_encoder.h"
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

// Some rows of a tensor, and what they are stored as.
struct Chunk {
  // Bytes of a tensor of the checkpoint, from an offset.
  struct Part {
    std::string tensor;
    int64_t offset = 0;
    std::span<const std::byte> bytes;
  };

  Bfloat16* Rows(int64_t elements) {
    if (rows.size() < elements) {
      rows = {};
      rows = AlignedBuffer<Bfloat16>(elements);
    }
    return rows.data();
  }

  AlignedBuffer<Bfloat16> rows;
  std::vector<std::byte> codes, scales;
  std::vector<Part> parts;
};

// Hands chunks to the writer in order, one behind the one being made.
class ChunkWriter {
 public:
  ChunkWriter(const std::filesystem::path& directory, ShardPlan plan)
      : writer_(directory, std::move(plan)) {}

  // The next chunk; stays untouched by the one that is being written.
  Chunk& Prepare() { return chunks_[next_]; }

  // Starts to write the parts of the prepared chunk.
  void Write() {
    Wait();
    pending_ = std::async(std::launch::async, [this, &parts = chunks_[next_].parts] {
      for (const Chunk::Part& part : parts) {
        writer_.WritePart(part.tensor, part.offset, part.bytes);
      }
    });
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
  std::array<Chunk, 2> chunks_;
  std::size_t next_ = 0;
  std::future<void> pending_;  // the last member: its destructor waits while the others still exist
};

SourceLinear LinearOf(const TensorToFill& tensor) {
  const std::string& name = tensor.spec.name;
  return {name.substr(0, name.rfind('.')), tensor.spec.shape[0], tensor.spec.shape[1],
          tensor.spec.dtype};
}

// The tensors of the checkpoint that hold it.
std::vector<PartTensor> PartsOf(const TensorToFill& tensor) {
  if (tensor.format == nullptr) return {{LinearPart::kCodes, tensor.spec}};
  return tensor.format->tensors(LinearOf(tensor), tensor.scheme);
}

// The bytes of filled rows, which stay in the chunk.
class RowsStoring {
 public:
  explicit RowsStoring(const TensorToFill& tensor) : parts_(PartsOf(tensor)) {
    if (tensor.format == nullptr) return;
    encoder_.emplace(tensor.spec.name, tensor.scheme.weight, tensor.format->rule(tensor.scheme),
                     tensor.spec.dtype, tensor.spec.shape[0], tensor.spec.shape[1]);
    const auto made = [](const PartTensor& part) {
      return part.part == LinearPart::kCodes || part.part == LinearPart::kScale;
    };
    if (encoder_->NeedsMaximum() || !std::ranges::all_of(parts_, made)) {
      Fail(ErrorCode::kUnsupported,
           "{}: random weights are stored as numbers, or by schemes whose scales are of blocks and "
           "whose inputs need none; the config says {}",
           tensor.spec.name, DescribeScheme(tensor.scheme.weight));
    }
  }

  // Rows of a chunk are a multiple of it.
  int64_t band_rows() const { return encoder_ ? encoder_->band_rows() : 1; }

  void Store(int64_t first_row, MatrixView<Bfloat16> rows, Chunk& chunk) const {
    const auto bytes = std::as_bytes(
        std::span<const Bfloat16>(rows.data, static_cast<std::size_t>(rows.rows * rows.columns)));
    chunk.parts.clear();
    if (!encoder_) {
      const int64_t at = first_row * rows.columns * ElementBytes(Dtype::kBF16);
      chunk.parts.push_back({parts_.front().tensor.name, at, bytes});
      return;
    }
    const WeightEncoder::BandSizes sizes = encoder_->SizesOfBand(first_row, rows.rows);
    chunk.codes.resize(static_cast<std::size_t>(sizes.codes));
    chunk.scales.resize(static_cast<std::size_t>(sizes.scales));
    encoder_->Encode(first_row, bytes, 0.0f, {chunk.codes, chunk.scales, {}});
    for (const PartTensor& part : parts_) {
      const bool codes = part.part == LinearPart::kCodes;
      chunk.parts.push_back({part.tensor.name, codes ? sizes.codes_at : sizes.scales_at,
                             codes ? chunk.codes : chunk.scales});
    }
  }

 private:
  std::vector<PartTensor> parts_;
  std::optional<WeightEncoder> encoder_;
};

}  // namespace

int64_t WriteWeightFiles(const WeightFilesRequest& request, const std::filesystem::path& directory,
                         ProgressSink& progress) {
  std::vector<TensorSpec> specs;
  for (const TensorToFill& tensor : request.tensors) {
    CheckTensorToFill(tensor);
    for (PartTensor& part : PartsOf(tensor)) specs.push_back(std::move(part.tensor));
  }
  ShardPlan plan = PlanShards(std::move(specs), request.max_shard_bytes);
  const int64_t total_bytes = plan.total_tensor_bytes;
  ChunkWriter writer(directory, std::move(plan));
  progress.BeginPhase("Writing weights", total_bytes, "bytes");
  for (const TensorToFill& tensor : request.tensors) {
    const WeightGenerator generator(tensor, request.seed);
    const RowsStoring storing(tensor);
    const int64_t chunk_rows = std::min(
        RoundUp(RowsWithin(kChunkBytes, generator), storing.band_rows()), generator.rows());
    for (int64_t first = 0; first < generator.rows(); first += chunk_rows) {
      ThrowIfStopRequested("nothing is left behind; the same command starts again");
      const int64_t count = std::min(chunk_rows, generator.rows() - first);
      Chunk& chunk = writer.Prepare();
      const MatrixView<Bfloat16> rows(chunk.Rows(count * generator.columns()), count,
                                      generator.columns());
      FillRows(generator, first, rows);
      storing.Store(first, rows, chunk);
      int64_t bytes = 0;
      for (const Chunk::Part& part : chunk.parts) bytes += std::ssize(part.bytes);
      writer.Write();
      progress.Advance(bytes);
    }
  }
  writer.Finish();
  progress.EndPhase();
  return total_bytes;
}

}  // namespace narrow
