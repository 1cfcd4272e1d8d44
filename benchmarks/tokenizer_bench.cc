// Tokenizer throughput: tokenizer_bench <tokenizer.json> <text file>. One thread; the text is
// encoded whole, a few times, and the median is reported. The first pass, with a cold word cache,
// is apart.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "io/file.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

constexpr int kPasses = 9;
constexpr int64_t kMaxBytes = int64_t{1} << 29;

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int Run(const char* tokenizer_path, const char* text_path) {
  const auto start = std::chrono::steady_clock::now();
  const Tokenizer tokenizer =
      Tokenizer::FromJson(ReadWholeFile(tokenizer_path, kMaxBytes), tokenizer_path);
  const double load_seconds = SecondsSince(start);
  const std::string text = ReadWholeFile(text_path, kMaxBytes);
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  std::vector<double> rates;
  std::size_t tokens = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto pass_start = std::chrono::steady_clock::now();
    tokens = tokenizer.Encode(text, SpecialTokens::kAdd).size();
    rates.push_back(megabytes / SecondsSince(pass_start));
  }
  const double first = rates.front();
  std::sort(rates.begin(), rates.end());
  std::printf(
      "tokenizer: %s: load %.0f ms; %.2f MB to %zu tokens on 1 thread: first pass %.1f MB/s, "
      "median %.1f MB/s (%.1f to %.1f)\n",
      tokenizer_path, load_seconds * 1e3, megabytes, tokens, first, rates[kPasses / 2],
      rates.front(), rates.back());
  return 0;
}

}  // namespace
}  // namespace narrow

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: tokenizer_bench tokenizer.json text-file\n");
    return 2;
  }
  try {
    return narrow::Run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenizer_bench: %s\n", error.what());
    return 1;
  }
}
