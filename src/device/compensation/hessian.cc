#include "device/compensation/hessian.h"

#include <algorithm>
#include <functional>
#include <span>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "base/ranks.h"
#include "kernels/matmul.h"
#include "kernels/transpose.h"

namespace narrow {
namespace {

constexpr int64_t kDepth = 512;                     // tokens of a product
constexpr int64_t kBatchDepths = 8;                 // products a thread does in a row, at most,
constexpr int64_t kBatchBytes = int64_t{32} << 20;  // and as far as their operands fit in here
constexpr int64_t kTileColumnMultiple = 64;
constexpr int64_t kStripColumns = 128;  // transposed by one thread
constexpr int64_t kTilesShared = 128;   // of each rank at a time
constexpr int64_t kUneven = 8;          // one part in so many is the most that ranks may differ by

// Columns of each of the parts `columns` falls into when none may be wider than `widest`.
int64_t EvenPart(int64_t columns, int64_t widest, int64_t multiple) {
  return RoundUp(DivideRoundUp(columns, DivideRoundUp(columns, widest)), multiple);
}

// Tokens of one batch: whole products, few enough times for threads to meet.
int64_t BatchTokens(int64_t columns, int64_t element_bytes) {
  const int64_t depth_bytes = 2 * kDepth * columns * element_bytes;
  return kDepth * std::clamp<int64_t>(kBatchBytes / depth_bytes, 1, kBatchDepths);
}

void MirrorLowerTriangle(MatrixView<float> square) {
  for (int64_t row = 0; row < square.rows; ++row) {
    for (int64_t column = 0; column < row; ++column)
      square.Row(column)[row] = square.Row(row)[column];
  }
}

}  // namespace

template <typename T>
void HessianAccumulator::Flush() {
  auto& batch = std::get<Batch<T>>(batches_);
  const int64_t depths = DivideRoundUp(batch.tokens, kDepth);
  const MatrixView<T> rows(batch.rows.data(), depths * kDepth, columns_);
  for (int64_t r = batch.tokens; r < rows.rows; ++r) std::ranges::fill(rows.RowSpan(r), T{});
  const auto transposed = [&](int64_t depth) {
    return MatrixView<T>(batch.transposed.data() + depth * kDepth * columns_, columns_, kDepth);
  };
  const std::vector<Strip> strips = StripsToTranspose();
  ParallelFor(depths * std::ssize(strips), [&](int64_t item) {
    const int64_t depth = item / std::ssize(strips);
    const Strip& strip = strips[item % std::ssize(strips)];
    Transpose<T>(rows.RowBlock(depth * kDepth, kDepth).ColumnBlock(strip.first, strip.count),
                 transposed(depth).RowBlock(strip.first, strip.count));
  });
  std::vector<const Tile*> own;
  for (const Tile& tile : tiles_) {
    if (IsOwn(tile)) own.push_back(&tile);
  }
  ParallelFor(std::ssize(own), [&](int64_t item) {
    const Tile& tile = *own[item];
    const int64_t first_column = blocks_[tile.block].first_column;
    const MatrixView<float> sums = SumsOf(tile);
    for (int64_t depth = 0; depth < depths; ++depth) {
      ProductAdd<T>(transposed(depth).RowBlock(first_column + tile.row, sums.rows),
                    rows.RowBlock(depth * kDepth, kDepth)
                        .ColumnBlock(first_column + tile.column, sums.columns),
                    sums);
    }
  });
  batch.tokens = 0;
}

MatrixView<float> HessianAccumulator::SumsOf(const Tile& tile) {
  Block& block = blocks_[tile.block];
  const int64_t height = std::min(tile_columns_, block.columns - tile.row);
  const int64_t width = std::min(tile_columns_, block.columns - tile.column);
  return MatrixView<float>(block.values.data(), block.columns, block.columns)
      .RowBlock(tile.row, height)
      .ColumnBlock(tile.column, width);
}

template <typename Visit>
void HessianAccumulator::ForTilesOf(int rank, int64_t first, int64_t count, const Visit& visit) {
  const int64_t last = std::min(first + count, std::ssize(tiles_));
  for (int64_t i = first; i < last; ++i) {
    if (tiles_[i].rank == rank) visit(SumsOf(tiles_[i]));
  }
}

void HessianAccumulator::Share() {
  Finish();
  Ranks& ranks = JobRanks();
  if (sums_ == Sums::kWhole || ranks.count() == 1) return;
  const int64_t together = kTilesShared * ranks.count();
  for (int64_t first = 0; first < std::ssize(tiles_); first += together) {
    std::vector<float> own;
    ForTilesOf(ranks.rank(), first, together, [&](MatrixView<float> tile) {
      for (int64_t row = 0; row < tile.rows; ++row) {
        own.insert(own.end(), tile.Row(row), tile.Row(row) + tile.columns);
      }
    });
    ranks.InTurn(std::as_bytes(std::span(own)), [&](int rank, std::span<const std::byte> bytes) {
      if (rank == ranks.rank()) return;
      const auto* next = reinterpret_cast<const float*>(bytes.data());
      ForTilesOf(rank, first, together, [&](MatrixView<float> tile) {
        for (int64_t row = 0; row < tile.rows; ++row, next += tile.columns) {
          std::copy_n(next, tile.columns, tile.Row(row));
        }
      });
    });
  }
  sums_ = Sums::kWhole;
}

void HessianAccumulator::Finish() {
  Flush<float>();
  Flush<Bfloat16>();
  batches_ = {};
}

HessianAccumulator::HessianAccumulator(int64_t columns, int64_t block_columns, Sums sums)
    : columns_(columns), sums_(sums) {
  NARROW_CHECK(columns > 0 && block_columns >= 0);
  const int64_t step = BlockColumns(columns, block_columns);
  tile_columns_ = EvenPart(step, kTileColumns, kTileColumnMultiple);
  for (int64_t first = 0; first < columns; first += step) {
    const int64_t width = std::min(step, columns - first);
    Block& block = blocks_.emplace_back(Block{first, width, {}});
    block.values = AlignedBuffer<float>(width * width);
    std::ranges::fill(block.values.span(), 0.0f);
    for (int64_t row = 0; row < width; row += tile_columns_) {
      for (int64_t column = 0; column <= row; column += tile_columns_) {
        tiles_.push_back({std::ssize(blocks_) - 1, row, column});
      }
    }
  }
  if (sums_ == Sums::kDivided) ChooseRanks();
}

void HessianAccumulator::ChooseRanks() {
  const auto ranks = static_cast<std::size_t>(JobRanks().count());
  // Whole rows of tiles, so that little is transposed by more than one rank: the longest first,
  // each to the rank that has the fewest tiles.
  std::vector<std::span<Tile>> rows;
  for (std::size_t i = 0, next = 0; i < tiles_.size(); i = next) {
    while (next < tiles_.size() && tiles_[next].block == tiles_[i].block &&
           tiles_[next].row == tiles_[i].row) {
      ++next;
    }
    rows.push_back(std::span(tiles_).subspan(i, next - i));
  }
  std::ranges::stable_sort(rows, std::ranges::greater(), &std::span<Tile>::size);
  std::vector<int64_t> counts(ranks);
  for (const std::span<Tile> row : rows) {
    const auto least = std::ranges::min_element(counts);
    *least += std::ssize(row);
    for (Tile& tile : row) tile.rank = static_cast<int>(least - counts.begin());
  }
  // Where rows are too few for that to be even: tile by tile.
  const int64_t even = DivideRoundUp(std::ssize(tiles_), std::ssize(counts));
  if (std::ranges::max(counts) <= even + even / kUneven) return;
  for (std::size_t i = 0; i < tiles_.size(); ++i) tiles_[i].rank = static_cast<int>(i % ranks);
}

bool HessianAccumulator::IsOwn(const Tile& tile) const {
  return sums_ == Sums::kWhole || tile.rank == JobRanks().rank();
}

std::vector<HessianAccumulator::Strip> HessianAccumulator::StripsToTranspose() const {
  std::vector<Strip> strips;
  for (const Tile& tile : tiles_) {
    const Block& block = blocks_[tile.block];
    const int64_t begin = block.first_column + tile.row;
    const int64_t end = begin + std::min(tile_columns_, block.columns - tile.row);
    // Tiles of a row are one after the other.
    if (!IsOwn(tile) || (!strips.empty() && strips.back().first >= begin)) continue;
    for (int64_t first = begin; first < end; first += kStripColumns) {
      strips.push_back({first, std::min(kStripColumns, end - first)});
    }
  }
  return strips;
}

int64_t HessianAccumulator::BlockColumns(int64_t columns, int64_t block_columns) {
  if (block_columns == 0 || block_columns >= columns) return columns;
  return EvenPart(columns, block_columns, kHessianColumnMultiple);
}

template <typename T>
void HessianAccumulator::AddRows(MatrixView<const T> rows) {
  auto& batch = std::get<Batch<T>>(batches_);
  const int64_t batch_tokens = BatchTokens(columns_, sizeof(T));
  if (batch.rows.size() == 0) {
    batch.rows = AlignedBuffer<T>(batch_tokens * columns_);
    batch.transposed = AlignedBuffer<T>(batch_tokens * columns_);
  }
  for (int64_t r = 0; r < rows.rows; ++r) {
    std::ranges::copy(rows.RowSpan(r), batch.rows.data() + batch.tokens * columns_);
    if (++batch.tokens == batch_tokens) Flush<T>();
  }
  tokens_ += rows.rows;
}

void HessianAccumulator::Add(ConstOperands rows) {
  NARROW_CHECK(rows.columns == columns_);
  WithElement(rows.type, [&](auto element) { AddRows(rows.As<decltype(element)>()); });
}

void HessianAccumulator::ChangeBasis(
    int64_t part, const std::function<MatrixView<const float>(int64_t)>& matrices) {
  NARROW_CHECK(columns_ % part == 0 && kHessianColumnMultiple % part == 0);
  Finish();
  for (Block& block : blocks_) {
    const MatrixView<float> sums(block.values.data(), block.columns, block.columns);
    ParallelFor(block.columns / part, [&](int64_t row) {
      const auto square = [&](int64_t column) {
        return sums.RowBlock(row * part, part).ColumnBlock(column * part, part);
      };
      MirrorLowerTriangle(square(row));
      AlignedBuffer<float> buffer(part * part);
      const MatrixView<float> half_done(buffer.data(), part, part);
      const int64_t first = block.first_column / part;
      for (int64_t column = 0; column <= row; ++column) {
        std::ranges::fill(buffer.span(), 0.0f);
        ProductAdd<float>(matrices(first + row), square(column), half_done);
        ProductTransposed<float>(half_done, matrices(first + column), square(column));
      }
    });
  }
}

void HessianAccumulator::AddSquareTo(int64_t first_column, MatrixView<double> sums) {
  Finish();
  const auto block = std::ranges::find_if(blocks_, [&](const Block& candidate) {
    return first_column < candidate.first_column + candidate.columns;
  });
  NARROW_CHECK(block != blocks_.end() && first_column >= block->first_column);
  const int64_t first = first_column - block->first_column;
  NARROW_CHECK(first + sums.rows <= block->columns && sums.columns == sums.rows);
  for (int64_t row = 0; row < sums.rows; ++row) {
    for (int64_t column = 0; column < sums.rows; ++column) {
      const int64_t lower = first + std::max(row, column), left = first + std::min(row, column);
      sums.Row(row)[column] += block->values[lower * block->columns + left];
    }
  }
}

std::vector<HessianAccumulator::Block> HessianAccumulator::TakeBlocks() {
  Finish();
  tiles_.clear();
  return std::move(blocks_);
}

int64_t HessianAccumulator::Bytes(int64_t columns, int64_t block_columns, ComputeType compute) {
  const int64_t step = BlockColumns(columns, block_columns);
  const int64_t whole = columns / step, rest = columns % step;
  return (whole * step * step + rest * rest) * static_cast<int64_t>(sizeof(float)) +
         2 * BatchTokens(columns, OperandBytes(compute)) * columns * OperandBytes(compute);
}

}  // namespace narrow
