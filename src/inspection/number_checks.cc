#include "inspection/number_checks.h"

#include <algorithm>
#include <map>
#include <string>

#include "base/error.h"
#include "base/interrupt.h"
#include "io/file.h"
#include "kernels/finite.h"
#include "tensor/tensor.h"

namespace narrow {
namespace {

constexpr int64_t kChunkBytes = int64_t{8} << 20;

bool IsChecked(const InspectedTensor& tensor) {
  return Info(tensor.dtype).floating && tensor.scale.empty();
}

// True when all of the tensor is finite.
bool IsFinite(const InputFile& file, const InspectedTensor& tensor,
              AlignedBuffer<std::byte>& buffer, ProgressSink& progress) {
  bool finite = true;
  for (int64_t done = 0; done < tensor.bytes; done += kChunkBytes) {
    ThrowIfStopRequested("nothing was changed; the same command starts over");
    const int64_t count = std::min(kChunkBytes, tensor.bytes - done);
    const auto bytes = buffer.span().first(static_cast<std::size_t>(count));
    file.ReadAt(tensor.begin + done, bytes);
    finite = AllFinite(tensor.dtype, bytes) && finite;
    progress.Advance(count);
  }
  return finite;
}

}  // namespace

void CheckNumbers(const std::filesystem::path& directory, const Inventory& inventory,
                  ProgressSink& progress, Findings& findings) {
  int64_t total = 0;
  for (const InspectedTensor& tensor : inventory.tensors) {
    if (IsChecked(tensor)) total += tensor.bytes;
  }
  progress.BeginPhase("Reading weights", total, "bytes");
  AlignedBuffer<std::byte> buffer(kChunkBytes);
  std::map<std::string, InputFile> files;
  for (const InspectedTensor& tensor : inventory.tensors) {
    if (!IsChecked(tensor)) continue;
    const InputFile& file = files.try_emplace(tensor.file, directory / tensor.file).first->second;
    if (IsFinite(file, tensor, buffer, progress)) continue;
    findings.Error("tensors that hold NaN or infinity",
                   fmt::format("tensor {} ({}) holds NaN or infinity", Quoted(tensor.name),
                               Name(tensor.dtype)));
  }
  progress.EndPhase();
}

}  // namespace narrow
