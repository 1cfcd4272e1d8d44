#include "plan/machine_rates.h"

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
#include "device/compensation/operations.h"
#include "device/compensation/rounding.h"
#include "device/operations.h"
#include "io/directory_lock.h"
#include "io/file.h"
#include "model/decoder_layer.h"
#include "plan/job_work.h"
#include "plan/memory_plan.h"

namespace narrow {
namespace {

constexpr double kRepeatedSeconds = 0.4;
constexpr int64_t kPanelElements = int64_t{1} << 25;
constexpr int64_t kLayerElements = int64_t{1} << 28;
constexpr int64_t kRoundingColumns = 4096;
constexpr int64_t kRoundingTokens = 4096;  // whole batches of the accumulator
constexpr int64_t kRoundingRowsPerThread = 128;
constexpr int64_t kDiskBytes = int64_t{256} << 20;
constexpr int64_t kDiskChunkBytes = int64_t{8} << 20;

double WallSeconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  return std::max(taken.count(), 1e-9);
}

// Numbers of both signs around 1, different from each other.
AlignedBuffer<float> Numbers(int64_t count) {
  AlignedBuffer<float> numbers(count);
  uint32_t state = 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    numbers[i] = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  return numbers;
}

Operands NumbersIn(OperandBuffer& memory, ComputeType compute, int64_t rows, int64_t columns) {
  const Operands operands = memory.Reserve(compute, rows, columns);
  FromFloats({Numbers(rows * columns).data(), rows, columns}, operands);
  return operands;
}

// The best of a few times: what else runs on the machine only ever makes one longer.
double ShortestSeconds(const std::function<void()>& work) {
  work();  // the first time builds kernels
  double shortest = WallSeconds(work);
  for (double total = shortest; total < kRepeatedSeconds;) {
    const double seconds = WallSeconds(work);
    shortest = std::min(shortest, seconds);
    total += seconds;
  }
  return shortest;
}

// A panel of weights: a tile of rows per thread and call, as the layers do, packing and rewriting.
void MeasurePanel(ComputeType compute, int64_t columns, MachineRates& rates) {
  const int64_t tile = TileRows(columns);
  const int64_t rows = RoundUp(std::clamp<int64_t>(kPanelElements / columns, 256, 4096), 64);
  const int64_t threads = ThreadCount();
  OperandBuffer weights, inputs, outputs;
  const Operands view = NumbersIn(weights, compute, rows, columns);
  const ConstOperands x = NumbersIn(inputs, compute, tile, columns);
  const Operands out = outputs.Reserve(compute, threads * tile, rows);
  PackedWeights packed(compute, rows, columns);
  const double packing = ShortestSeconds([&] {
    ParallelFor(rows, [&](int64_t row) { FindMaximum(view.RowBlock(row, 1)); });
    packed = PackedWeights(compute, rows, columns);  // memory that is touched for the first time
    packed.Pack(view);
  });
  rates.packing = static_cast<double>(packed.bytes()) / packing;
  const double rewriting = ShortestSeconds([&] {
    packed.UnpackPanel(0, view);
    ParallelFor(rows, [&](int64_t row) {
      thread_local std::vector<float> floats;
      floats.resize(static_cast<std::size_t>(columns));
      const MatrixView<float> numbers(floats.data(), 1, columns);
      ToFloats(view.RowBlock(row, 1), numbers);
      FromFloats(numbers, view.RowBlock(row, 1));
    });
    packed.PackPanel(0, view);
  });
  rates.rewriting = static_cast<double>(packed.bytes()) / rewriting;

  const double product = ShortestSeconds([&] {
    ParallelFor(threads,
                [&](int64_t thread) { packed.Multiply(x, out.RowBlock(thread * tile, tile)); });
  });
  rates.products = 2.0 * static_cast<double>(threads * tile * rows * columns) / product;
}

// The same model with fewer heads and a narrower MLP, so that a layer has at most kLayerElements
// weights: what a layer takes besides its products is in proportion to them.
DecoderConfig Narrowed(const ModelFamily& family, DecoderConfig config) {
  while (LayerWeightCount(family.layer(config, 0)) > kLayerElements) {
    const bool heads = config.heads.key_value_heads % 2 == 0;
    if (!heads && config.intermediate <= 256) break;
    if (heads) {
      config.heads.query_heads /= 2;
      config.heads.key_value_heads /= 2;
    }
    config.intermediate = RoundUp(config.intermediate / 2, 64);
  }
  return config;
}

DecoderLayer LayerOfNumbers(const LayerSpec& spec, ComputeType compute) {
  DecoderLayer layer;
  layer.spec = spec;
  for (std::size_t place = 0; place < kNormPlaceCount; ++place) {
    if (!spec.norms[place]) continue;
    const std::vector<float> ones(static_cast<std::size_t>(spec.norms[place]->size), 1.0f);
    layer.norms[place] = Norm(*spec.norms[place], ones);
  }
  for (const PlainTensor& tensor : PlainTensors(spec)) {
    layer.plain[tensor.name].assign(static_cast<std::size_t>(*CheckedProduct(tensor.shape)), 0.5f);
  }
  for (const GroupSpec& group : GroupsOf(spec)) {
    PackedWeights packed(compute, group.rows, group.columns);
    OperandBuffer memory;
    const Operands panel = NumbersIn(memory, compute, packed.panel_rows(), group.columns);
    for (int64_t p = 0; p < packed.panel_count(); ++p) {
      const int64_t count = std::min(packed.panel_rows(), group.rows - p * packed.panel_rows());
      packed.PackPanel(p, panel.RowBlock(0, count));
    }
    layer.Linear(group.id) = FusedLinear(std::move(packed), {group.rows});
  }
  return layer;
}

// Whole layers on a tile of rows per thread or one text, whichever is more.
void MeasureLayer(const MeasuredShape& shape, MachineRates& rates) {
  const DecoderConfig config = Narrowed(*shape.family, shape.config);
  LayerSpec spec = shape.family->layer(config, 0);
  // Experts' products run at the rate of those that all tokens go through.
  spec.experts.reset();
  spec.attention.sinks.clear();
  if (spec.mlp) spec.mlp->token_gate.clear();
  DecoderLayer layer = LayerOfNumbers(spec, shape.compute);
  const int64_t rows = ThreadCount() * TileRows(config.hidden);
  const int64_t length = std::clamp<int64_t>(shape.text_tokens, 1, rows);
  std::vector<Sequence> sequences;
  double operations = static_cast<double>(rows * LinearFlopsPerToken(spec));
  for (int64_t first = 0; first < rows; first += length) {
    sequences.push_back({first, std::min(length, rows - first)});
    operations += static_cast<double>(AttentionFlops(spec.attention, sequences.back().count));
  }
  const AlignedBuffer<float> start = Numbers(rows * config.hidden);
  AlignedBuffer<float> hidden(rows * config.hidden);
  const RopeTables rope(std::span(&spec, 1), length);
  BatchWorkspace workspace;
  const auto run = [&] {
    std::ranges::copy(start.span(), hidden.data());
    ForwardLayer(layer, rope, sequences, MatrixView<float>(hidden.data(), rows, config.hidden),
                 workspace, nullptr);
  };
  rates.layer = operations / ShortestSeconds(run);
  for (const GroupSpec& group : GroupsOf(spec)) {
    layer.Linear(group.id).Quantize({StaticFloat8Input(1.0f), {1.0f}});
  }
  layer.cache.emplace();
  rates.quantized_layer = operations / ShortestSeconds(run);
}

// One block: whole batches of sums, the factor, and a chunk of rows per thread.
void MeasureRounding(ComputeType compute, int64_t columns, MachineRates& rates) {
  const int64_t n = std::min(columns, kRoundingColumns);
  OperandBuffer tokens;
  const ConstOperands inputs = NumbersIn(tokens, compute, kRoundingTokens, n);
  HessianAccumulator hessian(n);
  const double summing = ShortestSeconds([&] { hessian.Add(inputs); });
  rates.hessian = static_cast<double>(kRoundingTokens) * HessianFlopsPerToken(n, 0) / summing;

  std::optional<CompensationFactor> factor;
  const double factoring = WallSeconds([&] { factor.emplace(std::move(hessian)); });
  rates.factoring = FactorFlops(n, 0) / factoring;

  const int64_t rows = ThreadCount() * kRoundingRowsPerThread;
  const AlignedBuffer<float> weights = Numbers(rows * n);
  std::vector<std::byte> codes(static_cast<std::size_t>(rows * n));
  const MatrixView<const float> view(weights.data(), rows, n);
  rates.rounding = static_cast<double>(rows) * RoundingFlopsPerRow(n, 0) /
                   ShortestSeconds([&] { RoundCompensated(*factor, view, 1.0f / 448, codes); });
}

}  // namespace

void MeasureCompute(const MeasuredShape& shape, MachineRates& rates) {
  MeasurePanel(shape.compute, shape.config.hidden, rates);
  MeasureLayer(shape, rates);
  MeasureRounding(shape.compute, shape.statistics_columns, rates);
}

void MeasureDisk(const std::filesystem::path& directory, MachineRates& rates) {
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(directory, error);
  int64_t bytes = kDiskBytes;
  if (!error) bytes = std::min<int64_t>(bytes, static_cast<int64_t>(space.available / 4));
  bytes = std::max(bytes / kDiskChunkBytes, int64_t{1}) * kDiskChunkBytes;
  AlignedBuffer<std::byte> chunk(kDiskChunkBytes);
  for (int64_t i = 0; i < chunk.size(); ++i) chunk[i] = static_cast<std::byte>(i * 37 >> 3);
  const TemporaryDirectory temporary(directory);
  const std::filesystem::path file = temporary.path() / "rate";
  const double writing = WallSeconds([&] {
    OutputFile output(file);
    for (int64_t offset = 0; offset < bytes; offset += kDiskChunkBytes) {
      output.WriteAt(offset, chunk.span());
    }
    output.Close();
  });
  const InputFile input(file);
  input.DropCache(0, bytes);
  const double reading = WallSeconds([&] {
    for (int64_t offset = 0; offset < bytes; offset += kDiskChunkBytes) {
      input.ReadAt(offset, chunk.span());
    }
  });
  rates.disk_write = static_cast<double>(bytes) / writing;
  rates.disk_read = static_cast<double>(bytes) / reading;
}

}  // namespace narrow
