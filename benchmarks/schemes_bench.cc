// Throughput of encoding a BF16 matrix to the codes and scales of every scheme, and of reading
// codes back, on one core and from memory; in bytes read and written, beside memcpy of as many
// bytes.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "formats/scheme_format.h"
#include "kernels/group_codes.h"
#include "schemes/scheme_presets.h"
#include "schemes/weight_encoder.h"
#include "tensor/scalar_types.h"
#include "tensor/tensor.h"

namespace narrow {
namespace {

constexpr int64_t kRows = 4096;
constexpr int64_t kColumns = 8192;

std::vector<Bfloat16> RandomWeights() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<Bfloat16> weights(kRows * kColumns);
  std::ranges::generate(weights, [&] { return ToBfloat16(normal(random)); });
  return weights;
}

void ReportBytes(benchmark::State& state, int64_t bytes) {
  state.counters["GB/s"] = benchmark::Counter(static_cast<double>(bytes) * 1e-9,
                                              benchmark::Counter::kIsIterationInvariantRate);
}

void Encode(benchmark::State& state, const LinearScheme& scheme, const SchemeFormat& format) {
  static const std::vector<Bfloat16> weights = RandomWeights();
  const std::span<const std::byte> bytes = std::as_bytes(std::span(weights));
  const WeightEncoder encoder("weight", scheme.weight, format.rule(scheme), Dtype::kBF16, kRows,
                              kColumns);
  const WeightEncoder::BandSizes sizes = encoder.SizesOfBand(0, kRows);
  AlignedBuffer<std::byte> codes(sizes.codes), scales(sizes.scales), zeros(sizes.zeros);
  std::ranges::fill(codes.span(), std::byte{1});
  for (auto _ : state) {
    encoder.Encode(0, bytes, 0.1f, {codes.span(), scales.span(), zeros.span()});
    benchmark::ClobberMemory();
  }
  ReportBytes(state, std::ssize(bytes) + sizes.codes + sizes.scales + sizes.zeros);
}

// As many bytes as an 8-bit scheme reads and writes.
void Memcpy(benchmark::State& state) {
  constexpr int64_t kHalf = kRows * kColumns * 3 / 2;
  std::vector<char> from(kHalf, 'a'), to(kHalf, 'b');
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::ClobberMemory();
  }
  ReportBytes(state, 2 * kHalf);
}

void DecodeGroups(benchmark::State& state) {
  const std::vector<float> scales(kColumns / 32, 0.5f);
  std::vector<std::byte> codes(kRows * kColumns / 2, std::byte{0x3A});
  std::vector<float> row(kColumns);
  for (auto _ : state) {
    for (int64_t r = 0; r < kRows; ++r) {
      DecodeE2M1(std::span(codes).subspan(static_cast<std::size_t>(r * kColumns / 2), kColumns / 2),
                 {scales, 32}, row);
      benchmark::DoNotOptimize(row.data());
    }
  }
  ReportBytes(state, kRows * kColumns / 2 + kRows * kColumns * 4);
}

BENCHMARK(Memcpy)->Unit(benchmark::kMillisecond);
BENCHMARK(DecodeGroups)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace narrow

int main(int argc, char** argv) {
  narrow::SetThreadCount(1);
  for (const narrow::SchemePreset& preset : narrow::SchemePresets()) {
    for (const narrow::SchemeFormat& format : narrow::SchemeFormats()) {
      if (!format.holds(preset.scheme)) continue;
      const std::string name = std::string(preset.name) + "/" + std::string(format.name);
      benchmark::RegisterBenchmark(name.c_str(), narrow::Encode, preset.scheme, format)
          ->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
