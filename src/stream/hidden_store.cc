#include "stream/hidden_store.h"

#include <atomic>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "base/ranks.h"
#include "kernels/float8.h"

namespace narrow {
namespace {

InputFile OpenSaved(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_regular_file(path, error)) return InputFile(path);
  Fail(ErrorCode::kCorruptInput,
       "{} is missing or no file; the saved state is damaged, start over with --resume never",
       path.string());
}

}  // namespace

HiddenStore::HiddenStore(int64_t rows, int64_t width, Placement placement,
                         std::filesystem::path base)
    : rows_(rows), width_(width), placement_(placement), base_(std::move(base)) {
  if (placement_ == Placement::kMemory) memory_ = AlignedBuffer<float>(rows_ * width_);
}

std::filesystem::path HiddenStore::PathOf(int generation) const {
  return base_.string() + (generation == 0 ? ".0" : ".1");
}

int64_t HiddenStore::Bytes(int64_t rows, int64_t width) {
  return rows * width * static_cast<int64_t>(sizeof(float));
}

int64_t HiddenStore::OffsetOf(int64_t row) const { return Bytes(row, width_); }

OutputFile& HiddenStore::NextGeneration() {
  if (!output_) output_.emplace(PathOf(1 - current_));
  return *output_;
}

MatrixView<float> HiddenStore::Room(const Batch& batch) {
  if (placement_ == Placement::kMemory) {
    return MatrixView<float>(memory_.data(), rows_, width_).RowBlock(batch.first_row, batch.rows);
  }
  if (memory_.size() < batch.rows * width_) memory_ = AlignedBuffer<float>(batch.rows * width_);
  return {memory_.data(), batch.rows, width_};
}

MatrixView<float> HiddenStore::Take(const Batch& batch) {
  const MatrixView<float> rows = Room(batch);
  if (placement_ == Placement::kMemory) return rows;
  if (!input_) input_.emplace(PathOf(current_));
  input_->ReadAt(OffsetOf(batch.first_row),
                 std::as_writable_bytes(
                     std::span(memory_.data(), static_cast<std::size_t>(batch.rows * width_))));
  return rows;
}

void HiddenStore::Put(const Batch& batch) {
  if (placement_ == Placement::kMemory) return;
  NextGeneration().WriteAt(OffsetOf(batch.first_row),
                           std::as_bytes(std::span<const float>(
                               memory_.data(), static_cast<std::size_t>(batch.rows * width_))));
}

void HiddenStore::Fill(std::span<const int64_t> rows,
                       const std::function<void(std::size_t i, std::span<float> row)>& write) {
  const auto width = static_cast<std::size_t>(width_);
  if (placement_ == Placement::kMemory) {
    ParallelFor(std::ssize(rows), [&](int64_t i) {
      const auto index = static_cast<std::size_t>(i);
      write(index, {memory_.data() + rows[index] * width_, width});
    });
    return;
  }
  OutputFile& file = NextGeneration();
  ParallelFor(std::ssize(rows), [&](int64_t i) {
    const auto index = static_cast<std::size_t>(i);
    thread_local std::vector<float> row;
    row.resize(width);
    write(index, row);
    file.WriteAt(OffsetOf(rows[index]), std::as_bytes(std::span<const float>(row)));
  });
}

void HiddenStore::Revisit() {
  if (placement_ == Placement::kMemory) return;
  input_.emplace(PathOf(1 - current_));
  Release();
}

void HiddenStore::Release() {
  if (placement_ == Placement::kFile) memory_ = {};
}

void HiddenStore::Advance() {
  if (placement_ == Placement::kMemory) return;
  if (output_) output_->Close();
  output_.reset();
  input_.reset();
  memory_ = {};
  current_ = 1 - current_;
}

std::span<std::byte> HiddenStore::InMemory(const Batch& batch) {
  return std::as_writable_bytes(
      memory_.span().subspan(static_cast<std::size_t>(batch.first_row * width_),
                             static_cast<std::size_t>(batch.rows * width_)));
}

int HiddenStore::Save(std::span<const Part> parts) {
  if (placement_ != Placement::kMemory) return current_;
  current_ = 1 - current_;
  std::optional<OutputFile> file;
  if (JobRanks().leads()) file.emplace(PathOf(current_));
  std::vector<std::byte> others;
  for (const Part& part : parts) {
    std::span<std::byte> rows = InMemory(part.batch);
    if (file && part.rank != JobRanks().rank()) {
      others.resize(rows.size());
      rows = others;
    }
    JobRanks().Transfer(rows, part.rank, 0);
    if (file) file->WriteAt(OffsetOf(part.batch.first_row), rows);
  }
  if (file) file->Close();
  return current_;
}

void HiddenStore::Load(int generation, std::span<const Part> parts) {
  current_ = generation;
  if (!JobRanks().leads()) {
    for (const Part& part : parts) JobRanks().Transfer(InMemory(part.batch), 0, part.rank);
    return;
  }
  InputFile file = OpenSaved(PathOf(generation));
  const int64_t expected = Bytes(rows_, width_);
  if (file.size() != expected) {
    Fail(ErrorCode::kCorruptInput,
         "{} has {} bytes, expected {}; the saved state is damaged, start over with --resume never",
         file.path().string(), file.size(), expected);
  }
  if (placement_ != Placement::kMemory) {
    input_.emplace(std::move(file));
    return;
  }
  std::vector<std::byte> others;
  for (const Part& part : parts) {
    std::span<std::byte> rows = InMemory(part.batch);
    if (part.rank != JobRanks().rank()) {
      others.resize(rows.size());
      rows = others;
    }
    file.ReadAt(OffsetOf(part.batch.first_row), rows);
    JobRanks().Transfer(rows, 0, part.rank);
  }
}

bool AreFinite(MatrixView<const float> rows) {
  std::atomic<bool> finite = true;
  ParallelFor(rows.rows, [&](int64_t row) {
    if (!FindAbsoluteMaximum(rows.RowSpan(row)).finite) finite = false;
  });
  return finite;
}

void FailStates(const LayerSpec& layer, std::string_view version) {
  Fail(ErrorCode::kNumeric,
       "hidden states ({}) became NaN or infinite in the layer of {}: its numbers grow beyond "
       "float32; check its weights and scales",
       version, layer.attention_module);
}

}  // namespace narrow
