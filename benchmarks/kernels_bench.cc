// Throughput of the SIMD loops on one core, in bytes read and written, beside memcpy of as many
// bytes. The argument is the number of elements: 2^16 stays in the L2 cache, 2^25 does not fit any.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/elementwise.h"
#include "kernels/float8.h"
#include "tensor/tensor.h"

namespace narrow {
namespace {

AlignedBuffer<float> RandomFloats(int64_t count, float spread) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> distribution(-spread, spread);
  AlignedBuffer<float> values(count);
  std::generate(values.data(), values.data() + count, [&] { return distribution(random); });
  return values;
}

template <typename T>
AlignedBuffer<T> RandomValues(int64_t count, float spread) {
  AlignedBuffer<float> values = RandomFloats(count, spread);
  if constexpr (std::is_same_v<T, float>) {
    return values;
  } else {
    AlignedBuffer<T> narrowed(count);
    ConvertToBfloat16(values.span(), narrowed.span());
    return narrowed;
  }
}

void ReportBytes(benchmark::State& state, int64_t bytes) {
  state.counters["GB/s"] = benchmark::Counter(static_cast<double>(bytes) * 1e-9,
                                              benchmark::Counter::kIsIterationInvariantRate);
}

// memcpy that reads and writes together as many bytes as a conversion with this many per element.
void Memcpy(benchmark::State& state) {
  const int64_t half = state.range(0) * state.range(1) / 2;
  AlignedBuffer<char> from(half), to(half);
  std::fill_n(from.data(), half, 'a');
  std::fill_n(to.data(), half, 'b');
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), static_cast<std::size_t>(half));
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  ReportBytes(state, 2 * half);
}

// Runs work(values, codes) over `count` elements of T and E4M3 codes.
template <typename T, class Work>
void Conversion(benchmark::State& state, const Work& work) {
  const int64_t count = state.range(0);
  AlignedBuffer<T> values = RandomValues<T>(count, 400.0f);
  AlignedBuffer<Float8E4M3> codes(count);
  QuantizeFloat8(RandomValues<float>(count, 400.0f).span(), 1.0f, codes.span());
  for (auto _ : state) {
    work(values, codes);
    benchmark::ClobberMemory();
  }
  ReportBytes(state, count * static_cast<int64_t>(sizeof(T) + 1));
}

void Quantize(benchmark::State& state) {
  Conversion<float>(state, [](AlignedBuffer<float>& values, AlignedBuffer<Float8E4M3>& codes) {
    benchmark::DoNotOptimize(QuantizeFloat8(values.span(), 0.73f, codes.span()));
  });
}

template <typename T>
void Decode(benchmark::State& state) {
  Conversion<T>(state, [](AlignedBuffer<T>& values, AlignedBuffer<Float8E4M3>& codes) {
    DecodeFloat8(std::span<const Float8E4M3>(codes.span()), values.span());
  });
}

void RoundToGrid(benchmark::State& state) {
  const int64_t count = state.range(0);
  AlignedBuffer<Bfloat16> x = RandomValues<Bfloat16>(count, 400.0f);
  for (auto _ : state) {
    benchmark::DoNotOptimize(RoundToFloat8Grid(x.span(), 0.999f));
    benchmark::ClobberMemory();
  }
  ReportBytes(state, count * 4);
}

void AbsoluteMaximumOfBf16(benchmark::State& state) {
  const int64_t count = state.range(0);
  AlignedBuffer<Bfloat16> x = RandomValues<Bfloat16>(count, 4.0f);
  for (auto _ : state) {
    benchmark::DoNotOptimize(FindAbsoluteMaximum(std::span<const Bfloat16>(x.span())));
  }
  ReportBytes(state, count * 2);
}

constexpr int64_t kRows = 64;

template <typename T>
void SwiGluRows(benchmark::State& state) {
  const int64_t width = state.range(0) / kRows;
  AlignedBuffer<T> gate = RandomValues<T>(kRows * width, 8.0f);
  AlignedBuffer<T> up = RandomValues<T>(kRows * width, 2.0f);
  AlignedBuffer<T> out(kRows * width);
  for (auto _ : state) {
    Activate<T>(Activation::kSilu, {gate.data(), kRows, width}, {up.data(), kRows, width},
                {out.data(), kRows, width});
    benchmark::ClobberMemory();
  }
  ReportBytes(state, 3 * kRows * width * static_cast<int64_t>(sizeof(T)));
}

template <typename T>
void RmsNormRows(benchmark::State& state) {
  const int64_t width = state.range(0) / kRows;
  AlignedBuffer<float> x = RandomFloats(kRows * width, 2.0f);
  AlignedBuffer<float> weight = RandomFloats(width, 1.0f);
  AlignedBuffer<T> y(kRows * width);
  for (auto _ : state) {
    RmsNorm<T>({x.data(), kRows, width}, weight.span(), 1e-5f, {y.data(), kRows, width});
    benchmark::ClobberMemory();
  }
  ReportBytes(state, kRows * width * static_cast<int64_t>(sizeof(float) + sizeof(T)));
}

// Blocks of 64 queries by 256 keys, heads of 64.
template <typename T>
void Softmax(benchmark::State& state) {
  constexpr int64_t kColumns = 256;
  AlignedBuffer<float> scores = RandomFloats(kRows * kColumns, 20.0f);
  AlignedBuffer<T> p(kRows * kColumns);
  std::vector<float> maximum(kRows, -3.0e38f), sum(kRows, 0.0f), accumulator(kRows * 64, 0.0f);
  const std::vector<int64_t> valid(kRows, kColumns);
  for (auto _ : state) {
    SoftmaxStep<T>({scores.data(), kRows, kColumns}, 0.125f, valid, {p.data(), kRows, kColumns},
                   maximum, sum, {accumulator.data(), kRows, 64});
    benchmark::ClobberMemory();
  }
  ReportBytes(state, kRows * kColumns * static_cast<int64_t>(sizeof(float) + sizeof(T)));
}

constexpr int64_t kInCache = 1 << 16;
constexpr int64_t kInMemory = 1 << 25;

BENCHMARK(Memcpy)->Args({kInCache, 3})->Args({kInMemory, 3});
BENCHMARK(Decode<Bfloat16>)->Arg(kInCache)->Arg(kInMemory);
BENCHMARK(Memcpy)->Args({kInCache, 5})->Args({kInMemory, 5});
BENCHMARK(Quantize)->Arg(kInCache)->Arg(kInMemory);
BENCHMARK(Decode<float>)->Arg(kInCache)->Arg(kInMemory);
BENCHMARK(RoundToGrid)->Arg(kInCache);
BENCHMARK(AbsoluteMaximumOfBf16)->Arg(kInCache)->Arg(kInMemory);
BENCHMARK(SwiGluRows<Bfloat16>)->Arg(kInCache);
BENCHMARK(SwiGluRows<float>)->Arg(kInCache);
BENCHMARK(RmsNormRows<Bfloat16>)->Arg(kInCache);
BENCHMARK(RmsNormRows<float>)->Arg(kInCache);
BENCHMARK(Softmax<Bfloat16>);
BENCHMARK(Softmax<float>);

}  // namespace
}  // namespace narrow

BENCHMARK_MAIN();
