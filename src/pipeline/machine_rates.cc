#include "pipeline/machine_rates.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <system_error>
#include <vector>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/parallel.h"
#include "io/file.h"
#include "model/decoder_layer.h"
#include "pipeline/job_work.h"
#include "quantization/compensation/rounding.h"

namespace narrow {
namespace {

constexpr double kProductSeconds = 0.7;
constexpr int64_t kPanelElements = int64_t{1} << 25;
constexpr int64_t kRoundingColumns = 2048;
constexpr int64_t kRoundingTokens = 4096;  // whole batches of the accumulator
constexpr int64_t kRoundingRowsPerThread = 128;
constexpr int64_t kDiskBytes = int64_t{256} << 20;
constexpr int64_t kDiskChunkBytes = int64_t{8} << 20;

double SecondsOf(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  return std::max(taken.count(), 1e-9);
}

// Numbers of both signs around 1, different from each other.
template <typename T>
AlignedBuffer<T> Numbers(int64_t count) {
  AlignedBuffer<T> numbers(count);
  uint32_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    const float value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
    if constexpr (std::is_same_v<T, float>) {
      numbers[i] = value;
    } else {
      numbers[i] = ToBfloat16(value);
    }
  }
  return numbers;
}

// A tile of rows per thread and call, as the layers do.
template <typename T>
void MeasureProducts(int64_t columns, MachineRates& rates) {
  DecoderConfig config;
  config.hidden = columns;
  const int64_t tile = TileRows(config);
  const int64_t rows = RoundUp(std::clamp<int64_t>(kPanelElements / columns, 256, 4096), 64);
  const int64_t threads = ThreadCount();
  const AlignedBuffer<T> weights = Numbers<T>(rows * columns);
  const AlignedBuffer<T> inputs = Numbers<T>(tile * columns);
  AlignedBuffer<T> outputs(threads * tile * rows);
  PackedMatrix<T> packed(rows, columns);
  const MatrixView<const T> view(weights.data(), rows, columns);
  packed.Pack(view);  // the first time builds the kernel
  const double packing = SecondsOf([&] { packed.Pack(view); });
  rates.packing = static_cast<double>(packed.bytes()) / packing;

  const MatrixView<const T> x(inputs.data(), tile, columns);
  const auto round = [&] {
    ParallelFor(threads, [&](int64_t thread) {
      packed.Multiply(x, MatrixView<T>(outputs.data() + thread * tile * rows, tile, rows));
    });
  };
  round();
  const double operations = 2.0 * static_cast<double>(threads * tile * rows * columns);
  for (double total = 0; total < kProductSeconds;) {
    const double seconds = SecondsOf(round);
    rates.products = std::max(rates.products, operations / seconds);
    total += seconds;
  }
}

// One input of 2048 columns: whole batches of sums, the factor, and a chunk of rows per thread.
template <typename T>
void MeasureRounding(MachineRates& rates) {
  constexpr int64_t n = kRoundingColumns;
  const AlignedBuffer<T> tokens = Numbers<T>(kRoundingTokens * n);
  const MatrixView<const T> inputs(tokens.data(), kRoundingTokens, n);
  HessianAccumulator hessian(n);
  hessian.Add(inputs);  // the first time builds the kernels
  const double summing = SecondsOf([&] { hessian.Add(inputs); });
  rates.hessian = static_cast<double>(kRoundingTokens) * HessianFlopsPerToken(n, 0) / summing;

  std::optional<CompensationFactor> factor;
  const double factoring = SecondsOf([&] { factor.emplace(std::move(hessian)); });
  rates.factoring = FactorFlops(n, 0) / factoring;

  const int64_t rows = ThreadCount() * kRoundingRowsPerThread;
  const AlignedBuffer<float> weights = Numbers<float>(rows * n);
  std::vector<std::byte> codes(static_cast<std::size_t>(rows * n));
  const MatrixView<const float> view(weights.data(), rows, n);
  const auto round = [&] { RoundCompensated(*factor, view, 1.0f / 448, codes); };
  round();
  rates.rounding = static_cast<double>(rows) * RoundingFlopsPerRow(n, 0) /
                   std::min(SecondsOf(round), SecondsOf(round));
}

// A file that goes away with the object.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::filesystem::path path) : path_(std::move(path)) {}
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace

void MeasureCompute(ComputeType compute, int64_t columns, MachineRates& rates) {
  NARROW_CHECK(columns > 0);
  if (compute == ComputeType::kBfloat16) {
    MeasureProducts<Bfloat16>(columns, rates);
    MeasureRounding<Bfloat16>(rates);
  } else {
    MeasureProducts<float>(columns, rates);
    MeasureRounding<float>(rates);
  }
}

void MeasureDisk(const std::filesystem::path& directory, MachineRates& rates) {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(directory, error);
  int64_t bytes = kDiskBytes;
  if (!error) bytes = std::min<int64_t>(bytes, static_cast<int64_t>(space.available / 4));
  bytes = std::max(bytes / kDiskChunkBytes, int64_t{1}) * kDiskChunkBytes;
  AlignedBuffer<std::byte> chunk(kDiskChunkBytes);
  for (int64_t i = 0; i < chunk.size(); ++i) chunk[i] = static_cast<std::byte>(i * 37 >> 3);
  const TemporaryFile file(directory / fmt::format(".narrow-rate-{}", getpid()));
  const double writing = SecondsOf([&] {
    OutputFile output(file.path());
    for (int64_t offset = 0; offset < bytes; offset += kDiskChunkBytes) {
      output.WriteAt(offset, chunk.span());
    }
    output.Close();
  });
  const InputFile input(file.path());
  input.DropCache(0, bytes);
  const double reading = SecondsOf([&] {
    for (int64_t offset = 0; offset < bytes; offset += kDiskChunkBytes) {
      input.ReadAt(offset, chunk.span());
    }
  });
  rates.disk_write = static_cast<double>(bytes) / writing;
  rates.disk_read = static_cast<double>(bytes) / reading;
}

}  // namespace narrow
