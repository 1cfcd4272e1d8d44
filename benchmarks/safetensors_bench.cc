// Throughput of reading and writing checkpoints beside plain read() and write() of the same bytes:
// safetensors_bench [megabytes, default 256] [directory, default the temporary one]. One thread.
// Everything that writes ends with fsync; sources are in the page cache. The kinds take turns, and
// the median of the passes is reported, since the speed of a disk is not the same from one second
// to the next.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/checkpoint_reader.h"
#include "io/checkpoint_writer.h"
#include "tensor/tensor.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int kPasses = 5;
constexpr int64_t kTensorBytes = int64_t{16} << 20;  // a 2048 x 4096 matrix of bf16
constexpr std::size_t kCopyBytes = std::size_t{1} << 20;

// A directory removed at the end.
struct Workspace {
  explicit Workspace(const fs::path& parent) {
    std::string pattern = (parent / "narrow-bench-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) {
      Fail(ErrorCode::kIo, "{} cannot be created", pattern);
    }
    path = pattern;
  }
  ~Workspace() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

std::string TensorName(int64_t i) { return "model.layers." + std::to_string(i) + ".weight"; }

ShardPlan Plan(int64_t tensors) {
  std::vector<TensorSpec> specs;
  for (int64_t i = 0; i < tensors; ++i)
    specs.push_back({TensorName(i), Dtype::kBF16, {2048, 4096}});
  return PlanShards(std::move(specs), INT64_MAX);
}

void Require(bool succeeded, const char* what) {
  if (!succeeded) Fail(ErrorCode::kIo, "{} failed", what);
}

void PlainRead(const fs::path& from, std::span<std::byte> buffer) {
  const FileDescriptor file(::open(from.c_str(), O_RDONLY));
  Require(file.valid(), "open");
  ssize_t count = 1;
  while (count > 0) count = ::read(file.get(), buffer.data(), buffer.size());
  Require(count == 0, "read");
}

void PlainWrite(const fs::path& to, int64_t tensors, std::span<const std::byte> buffer) {
  const FileDescriptor file(::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666));
  Require(file.valid(), "open");
  for (int64_t i = 0; i < tensors; ++i) {
    Require(::write(file.get(), buffer.data(), buffer.size()) == std::ssize(buffer), "write");
  }
  Require(::fsync(file.get()) == 0, "fsync");
}

void PlainCopy(const fs::path& from, const fs::path& to, std::span<std::byte> buffer) {
  const FileDescriptor source(::open(from.c_str(), O_RDONLY));
  const FileDescriptor target(::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666));
  Require(source.valid() && target.valid(), "open");
  for (;;) {
    const ssize_t count = ::read(source.get(), buffer.data(), buffer.size());
    Require(count >= 0, "read");
    if (count == 0) break;
    Require(::write(target.get(), buffer.data(), static_cast<std::size_t>(count)) == count,
            "write");
  }
  Require(::fsync(target.get()) == 0, "fsync");
}

void ReadCheckpoint(const fs::path& from, std::span<std::byte> buffer) {
  const CheckpointReader reader(from);
  for (const CheckpointReader::TensorLocation& location : reader.tensors()) {
    reader.Read(location, buffer);
  }
}

void WriteCheckpoint(const fs::path& to, int64_t tensors, std::span<const std::byte> buffer) {
  CheckpointWriter writer(to, Plan(tensors));
  for (int64_t i = 0; i < tensors; ++i) writer.Write(TensorName(i), buffer);
  writer.Finish();
}

void CopyCheckpoint(const fs::path& from, const fs::path& to, int64_t tensors,
                    std::span<std::byte> buffer) {
  const CheckpointReader reader(from);
  CheckpointWriter writer(to, Plan(tensors));
  for (const CheckpointReader::TensorLocation& location : reader.tensors()) {
    reader.Read(location, buffer);
    writer.Write(location.entry.name, buffer);
  }
  writer.Finish();
}

struct Kind {
  const char* name;
  std::function<void()> work;
  std::vector<double> rates = {};  // GB/s
};

void Measure(std::vector<Kind>& kinds, int64_t bytes) {
  for (int pass = 0; pass < kPasses; ++pass) {
    for (Kind& kind : kinds) {
      const auto start = std::chrono::steady_clock::now();
      kind.work();
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      kind.rates.push_back(static_cast<double>(bytes) * 1e-9 / elapsed.count());
    }
  }
  for (Kind& kind : kinds) std::sort(kind.rates.begin(), kind.rates.end());
}

void Run(int64_t megabytes, const fs::path& parent) {
  const int64_t tensors = std::max<int64_t>(1, megabytes * 1'000'000 / kTensorBytes);
  const int64_t bytes = tensors * kTensorBytes;
  const Workspace workspace(parent);
  const fs::path model = workspace.path / "model";
  const fs::path output = workspace.path / "output";
  const fs::path plain = workspace.path / "plain";
  fs::create_directory(model);
  fs::create_directory(output);
  WriteFileAtomically(model / "config.json", "{}");

  AlignedBuffer<std::byte> tensor(kTensorBytes);
  for (int64_t i = 0; i < kTensorBytes; ++i)
    tensor[i] = static_cast<std::byte>((i * 2654435761) >> 13);
  AlignedBuffer<std::byte> other(kTensorBytes);
  const std::span<std::byte> piece = other.span().first(kCopyBytes);
  WriteCheckpoint(model, tensors, tensor.span());
  const fs::path weights = model / "model.safetensors";

  std::vector<Kind> kinds = {
      {"read()", [&] { PlainRead(weights, piece); }},
      {"checkpoint read", [&] { ReadCheckpoint(model, other.span()); }},
      {"write(), fsync", [&] { PlainWrite(plain, tensors, tensor.span()); }},
      {"checkpoint write", [&] { WriteCheckpoint(output, tensors, tensor.span()); }},
      {"read(), write(), fsync", [&] { PlainCopy(weights, plain, piece); }},
      {"checkpoint copy", [&] { CopyCheckpoint(model, output, tensors, other.span()); }},
  };
  Measure(kinds, bytes);
  std::printf("safetensors: %.0f MB in %lld tensors under %s, median of %d passes, 1 thread\n",
              static_cast<double>(bytes) / 1e6, static_cast<long long>(tensors), parent.c_str(),
              kPasses);
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const std::vector<double>& rates = kinds[i].rates;
    std::printf("  %-24s %6.2f GB/s (%.2f to %.2f)", kinds[i].name, rates[kPasses / 2],
                rates.front(), rates.back());
    if (i % 2 == 1) {
      std::printf(", %.0f %% of the plain one",
                  100 * rates[kPasses / 2] / kinds[i - 1].rates[kPasses / 2]);
    }
    std::printf("\n");
  }
}

}  // namespace
}  // namespace narrow

int main(int argc, char** argv) {
  try {
    const long megabytes = argc > 1 ? std::stol(argv[1]) : 256;
    if (argc > 3 || megabytes <= 0 || megabytes > 1'000'000) {
      std::fprintf(stderr, "usage: safetensors_bench [megabytes] [directory]\n");
      return 2;
    }
    narrow::Run(megabytes,
                argc > 2 ? std::filesystem::path(argv[2]) : std::filesystem::temp_directory_path());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "safetensors_bench: %s\n", error.what());
    return 1;
  }
}
