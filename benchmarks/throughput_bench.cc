// Matrix products against oneDNN's own peak on this machine, and the share of that peak the passes
// over a model sustain from end to end: throughput_bench [MODEL_DIR [EVALUATION_WINDOWS]].
// All threads. A product is repeated for half a second at least and the best of five is reported; a
// pass runs once, and its time includes reading and packing the weights.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dnnl.hpp>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/memory_use.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "jobs/tokenized_text.h"
#include "kernels/matmul.h"
#include "model/decoder_layer.h"
#include "model/model_source.h"
#include "stream/streaming_pass.h"

namespace narrow {
namespace {

// Every byte of the operands: both 0x3f3f as bf16 and 0x3f3f3f3f as f32 are about 0.75.
constexpr int kByte = 0x3f;

double WallSeconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// GFLOP/s of the best of five rounds of at least a tenth of a second each, after one warm-up.
double Gflops(int64_t flops, const std::function<void()>& work) {
  work();
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    int64_t calls = 0;
    double seconds = 0;
    while (seconds < 0.1) {
      seconds += WallSeconds(work);
      ++calls;
    }
    best = std::max(best, static_cast<double>(flops * calls) / seconds * 1e-9);
  }
  return best;
}

// oneDNN left to itself: one product over all threads, weights in the layout it likes best.
template <typename T>
double OneDnnGflops(int64_t m, int64_t n, int64_t k) {
  using dnnl::memory;
  const auto type = std::is_same_v<T, float> ? memory::data_type::f32 : memory::data_type::bf16;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc source({m, k}, type, memory::format_tag::ab);
  const memory::desc weights({k, n}, type, memory::format_tag::any);
  const memory::desc destination({m, n}, type, memory::format_tag::ab);
  omp_set_num_threads(ThreadCount());  // oneDNN's own threads; the program itself gives it one
  const dnnl::matmul::primitive_desc descriptor({source, weights, destination}, engine);
  memory x(source, engine);
  memory w(descriptor.weights_desc(), engine);
  memory y(destination, engine);
  std::memset(x.get_data_handle(), kByte, x.get_desc().get_size());
  std::memset(w.get_data_handle(), kByte, w.get_desc().get_size());
  const dnnl::matmul product(descriptor);
  const double gflops = Gflops(2 * m * n * k, [&] {
    product.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}});
    stream.wait();
  });
  omp_set_num_threads(1);
  return gflops;
}

// The same product as the passes run it: row tiles shared out over the threads.
template <typename T>
double TiledGflops(int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kTileRows = 512;
  AlignedBuffer<T> x(m * k);
  AlignedBuffer<T> y(m * n);
  AlignedBuffer<T> w(n * k);
  std::memset(static_cast<void*>(x.data()), kByte, static_cast<std::size_t>(x.size()) * sizeof(T));
  std::memset(static_cast<void*>(w.data()), kByte, static_cast<std::size_t>(w.size()) * sizeof(T));
  PackedMatrix<T> packed(n, k);
  packed.Pack(MatrixView<const T>(w.data(), n, k));
  const MatrixView<const T> input(x.data(), m, k);
  const MatrixView<T> output(y.data(), m, n);
  return Gflops(2 * m * n * k, [&] {
    ParallelFor((m + kTileRows - 1) / kTileRows, [&](int64_t tile) {
      const int64_t rows = std::min(kTileRows, m - tile * kTileRows);
      packed.Multiply(input.RowBlock(tile * kTileRows, rows),
                      output.RowBlock(tile * kTileRows, rows));
    });
  });
}

enum class Rows { kPrinted, kSilent };

// The best of oneDNN's products; a printed row has ours beside it.
template <typename T>
double OneDnnPeak(Rows rows) {
  struct Product {
    const char* what;
    int64_t m, n, k;
  };
  constexpr Product kProducts[] = {{"square", 4096, 4096, 4096},
                                   {"SmolLM2-135M q/k/v", 4096, 960, 576},
                                   {"SmolLM2-135M gate/up", 4096, 3072, 576},
                                   {"SmolLM2-135M down", 4096, 576, 1536},
                                   {"Llama 3.1 8B q/k/v", 4096, 6144, 4096}};
  double peak = 0;
  for (const Product& p : kProducts) {
    const double own = OneDnnGflops<T>(p.m, p.n, p.k);
    peak = std::max(peak, own);
    if (rows == Rows::kSilent) continue;
    std::printf("%-22s %5lld x %4lld x %4lld: oneDNN %4.0f GFLOP/s, narrow %4.0f GFLOP/s\n", p.what,
                static_cast<long long>(p.m), static_cast<long long>(p.n),
                static_cast<long long>(p.k), own, TiledGflops<T>(p.m, p.n, p.k));
  }
  return peak;
}

template <typename T>
double ReportProducts(const char* type) {
  std::printf("%s products [rows x columns x depth], %d threads\n", type, ThreadCount());
  const double peak = OneDnnPeak<T>(Rows::kPrinted);
  std::printf("oneDNN's peak here: %.0f GFLOP/s\n\n", peak);
  return peak;
}

struct PassFigures {
  const char* what = "";
  int64_t tokens = 0;
  double seconds = 0;
  double gflops = 0;  // achieved, a second
};

PassFigures MeasurePass(const char* what, PassRequest pass, const TokenStream* calibration,
                        const TokenStream* evaluation) {
  pass.calibration = calibration;
  pass.evaluation = evaluation;
  SilentProgress progress;
  PassResult result;
  PassFigures figures;
  figures.what = what;
  figures.tokens = (calibration != nullptr ? calibration : evaluation)->size();
  figures.seconds = WallSeconds([&] { result = RunStreamingPass(pass, progress); });
  figures.gflops = static_cast<double>(result.calibration_flops + result.evaluation_flops) /
                   figures.seconds * 1e-9;
  return figures;
}

void ReportModel(const std::string& directory, int64_t windows, ComputeType compute,
                 double peak_before) {
  const ModelSource model = OpenModel(directory, WeightState::kOriginal);
  ModelTokenizer tokenizer(directory, model.config.vocabulary, model.checkpoint->config(),
                           model.family->begins_windows);
  CalibrationOptions calibration_options;
  EvaluationOptions evaluation_options;
  evaluation_options.windows = windows;
  const TokenizedText calibration = TokenizeCalibration(calibration_options, tokenizer);
  const TokenizedText evaluation = TokenizeEvaluation(evaluation_options, tokenizer);
  PassRequest pass;
  pass.checkpoint = model.checkpoint.get();
  pass.family = model.family;
  pass.config = model.config;
  pass.compute = compute;
  std::printf("calibration on %s, evaluation on %s in windows of %lld\n",
              calibration.dataset.c_str(), evaluation.dataset.c_str(),
              static_cast<long long>(evaluation_options.window_tokens));
  const PassFigures passes[] = {
      MeasurePass("calibration", pass, &calibration.stream, nullptr),
      MeasurePass("evaluation", pass, nullptr, &evaluation.stream),
  };
  // Clocks move while the passes run, so the peak is taken on both sides of them.
  const double peak_after = compute == ComputeType::kBfloat16 ? OneDnnPeak<Bfloat16>(Rows::kSilent)
                                                              : OneDnnPeak<float>(Rows::kSilent);
  const double peak = std::max(peak_before, peak_after);
  std::printf("oneDNN's peak: %.0f GFLOP/s before the passes, %.0f after\n", peak_before,
              peak_after);
  for (const PassFigures& p : passes) {
    std::printf(
        "%-12s %8lld tokens in %7.2f s: %7.0f tokens/s, %5.0f GFLOP/s, %4.1f %% of the peak\n",
        p.what, static_cast<long long>(p.tokens), p.seconds,
        static_cast<double>(p.tokens) / p.seconds, p.gflops, 100 * p.gflops / peak);
  }
  std::printf("peak memory %.0f MB\n", static_cast<double>(PeakResidentBytes()) * 1e-6);
}

void Run(int argument_count, char** arguments) {
  const ComputeType compute = NativeComputeType();
  const double f32_peak = ReportProducts<float>("f32");
  const double peak =
      compute == ComputeType::kBfloat16 ? ReportProducts<Bfloat16>("bf16") : f32_peak;
  if (argument_count < 2) return;
  ReportModel(arguments[1], argument_count > 2 ? std::atoll(arguments[2]) : 0, compute, peak);
}

}  // namespace
}  // namespace narrow

int main(int argument_count, char** arguments) {
  try {
    narrow::Run(argument_count, arguments);
  } catch (const narrow::Error& error) {
    std::fprintf(stderr, "throughput_bench: %s\n", error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
