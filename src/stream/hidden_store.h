// The hidden states of one text between two layers, in memory or in a file of the work directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include "io/file.h"
#include "model/spec.h"
#include "stream/division.h"
#include "tensor/tensor.h"
#include "text/token_stream.h"

namespace narrow {

enum class Placement { kMemory, kFile };

// Spilled, there are two generations in two files: a layer reads the current one, batch by batch,
// and writes the next one, so that a layer that was interrupted can begin again. In memory the rows
// change in place, and Save() writes to the two files in turn. Thread-compatible.
class HiddenStore {
 public:
  // `base` names the files "<base>.0" and "<base>.1"; they are made when first needed (spilling, or
  // Save). Rows and width are those of the stream: [rows, width] f32.
  HiddenStore(int64_t rows, int64_t width, Placement placement, std::filesystem::path base);

  // Memory of so many rows: all of the stream, or, spilled, the longest batch, and one row for each
  // thread of Fill.
  static int64_t Bytes(int64_t rows, int64_t width);

  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }

  // The rows of a batch in memory, to be changed in place. One batch is taken at a time.
  MatrixView<float> Take(const Batch& batch);
  // The same without what they were: they are to be written.
  MatrixView<float> Room(const Batch& batch);
  // Gives the changed rows back as part of the next generation.
  void Put(const Batch& batch);
  // Writes rows of the next generation in any order: write(i, row) fills the row whose number is
  // rows[i]. Works on all threads, so not from within ParallelFor.
  void Fill(std::span<const int64_t> rows,
            const std::function<void(std::size_t i, std::span<float> row)>& write);
  // What has spilled takes no memory until a batch is taken again.
  void Release();
  // All rows were put: from now on Take and Put read and change the next generation, until Advance.
  void Revisit();
  // All rows were put or filled: the next generation becomes the current one. What has spilled
  // takes no memory until a batch is taken again.
  void Advance();

  // Makes the current generation durable; returns which file holds it (0 or 1), for Load. `parts`
  // are all rows; the leader writes those of all ranks.
  int Save(std::span<const Part> parts);
  // Starts from a saved generation: every rank has its parts afterwards. Throws: kCorruptInput when
  // the file has another size.
  void Load(int generation, std::span<const Part> parts);

 private:
  std::filesystem::path PathOf(int generation) const;
  int64_t OffsetOf(int64_t row) const;
  OutputFile& NextGeneration();
  std::span<std::byte> InMemory(const Batch& batch);

  int64_t rows_;
  int64_t width_;
  Placement placement_;
  std::filesystem::path base_;
  AlignedBuffer<float> memory_;  // [rows, width], or the rows of one batch when spilled
  int current_ = 0;  // file of the current generation (spilled), or of the last Save (in memory)
  std::optional<InputFile> input_;    // what Take reads, when spilled
  std::optional<OutputFile> output_;  // next generation, when spilled
};

// True when no state is NaN or infinite. Uses all threads.
bool AreFinite(MatrixView<const float> rows);

// Throws: kNumeric, naming the layer that such states left and the version of the model.
[[noreturn]] void FailStates(const LayerSpec& layer, std::string_view version);

}  // namespace narrow
