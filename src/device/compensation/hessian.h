// The second-order statistics of a linear layer's input: H = X^T X over calibration tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <tuple>
#include <vector>

#include "device/operands.h"
#include "tensor/scalar_types.h"
#include "tensor/tensor.h"

namespace narrow {

// Blocks of columns begin at multiples of it.
inline constexpr int64_t kHessianColumnMultiple = 128;

// Sums x x^T over tokens x, for one input shared by one or more linears. Where a full matrix would
// not fit, only square blocks of columns on the diagonal are kept. Sums are in f32: after t batches
// of 512 tokens they are off by about 2^-24 sqrt(t) relative to the diagonal, orders of magnitude
// below the damping added to it. Thread-compatible; Add uses all threads, and the sums depend
// neither on their number nor on how the tokens are split over calls, only on the order of the
// tokens.
class HessianAccumulator {
 public:
  // Columns [first_column, first_column + columns) of the input against themselves.
  struct Block {
    int64_t first_column = 0;
    int64_t columns = 0;
    AlignedBuffer<float> values;  // [columns, columns]; the lower triangle is valid
  };

  // `columns` is the width of the input. block_columns: widest block allowed; 0 for one block. All
  // blocks are as even as a multiple of kHessianColumnMultiple allows.
  // Divided, every rank of the job is given the same rows and sums some of the tiles, until
  // Share() gives all of them to all.
  enum class Sums { kWhole, kDivided };
  explicit HessianAccumulator(int64_t columns, int64_t block_columns = 0, Sums sums = Sums::kWhole);

  // rows [tokens, columns]; products are summed in f32.
  void Add(ConstOperands rows);
  // Add nothing afterwards.
  void Share();

  // The sums become those of x with every `part` columns p multiplied by a matrix [part, part]:
  // matrices(p) x_p. Add nothing afterwards. REQUIRES: part divides columns() and
  // kHessianColumnMultiple.
  void ChangeBasis(int64_t part, const std::function<MatrixView<const float>(int64_t)>& matrices);
  // Adds the sums of columns [first_column, first_column + sums.rows) against themselves to `sums`
  // (both triangles). Add nothing afterwards. REQUIRES: the columns are all in one block.
  void AddSquareTo(int64_t first_column, MatrixView<double> sums);

  // Columns of every block but the last, and the most a product of Add takes of them at a time.
  static int64_t BlockColumns(int64_t columns, int64_t block_columns);
  static constexpr int64_t kTileColumns = 256;

  int64_t columns() const { return columns_; }
  int64_t tokens() const { return tokens_; }  // added so far
  // The finished sums; the accumulator is empty afterwards.
  std::vector<Block> TakeBlocks();

  // Memory an accumulator holds for inputs of this operand type, for budgets.
  static int64_t Bytes(int64_t columns, int64_t block_columns, ComputeType compute);

 private:
  // Tokens waiting for a whole batch, as they came and transposed: products of a fixed shape need
  // neither a transposed operand nor a new primitive for every length of text.
  template <typename T>
  struct Batch {
    AlignedBuffer<T> rows;        // [batch tokens, columns]
    AlignedBuffer<T> transposed;  // [batch tokens / kDepth, columns, kDepth]
    int64_t tokens = 0;
  };
  struct Tile {
    int64_t block, row, column;  // within the block
    int rank = 0;                // that sums it
  };

  template <typename T>
  void AddRows(MatrixView<const T> rows);
  template <typename T>
  void Flush();
  // Divides the tiles over the ranks of the job.
  void ChooseRanks();
  // Columns [first, first + count) of the input that this rank needs transposed.
  struct Strip {
    int64_t first, count;
  };
  std::vector<Strip> StripsToTranspose() const;
  bool IsOwn(const Tile& tile) const;
  // Sums what still waits, and lets go of the waiting rows.
  void Finish();
  MatrixView<float> SumsOf(const Tile& tile);
  // Calls visit(tile) for those of a rank among [first, first + count).
  template <typename Visit>
  void ForTilesOf(int rank, int64_t first, int64_t count, const Visit& visit);

  int64_t columns_ = 0;
  int64_t tokens_ = 0;
  int64_t tile_columns_ = 0;
  std::vector<Block> blocks_;
  std::vector<Tile> tiles_;  // that meet the lower triangle of a block
  Sums sums_ = Sums::kWhole;
  std::tuple<Batch<float>, Batch<Bfloat16>> batches_;
};

}  // namespace narrow
