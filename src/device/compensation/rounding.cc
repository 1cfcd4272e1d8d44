#include "device/compensation/rounding.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "base/ranks.h"
#include "device/packed_weights.h"
#include "kernels/feedback.h"
#include "kernels/float8.h"
#include "kernels/matmul.h"

namespace narrow {
namespace {

constexpr int64_t kLazyColumns = 128;   // columns that get the earlier errors in one product
constexpr int64_t kProductDepth = 512;  // errors in a product; then kLazyColumns for the rest
constexpr int64_t kGatherRows = 16;     // rows transposed together
static_assert(kRoundingChunkRows % kFeedbackLanes == 0);

// What is rounded: the weight itself or with the errors so far made up for.
enum class Target { kWeight, kCompensated };

// How a column's targets are rounded: to codes, which are kept, and to numbers that a scale
// multiplies.
class Float8Grid {
 public:
  using Code = Float8E4M3;
  explicit Float8Grid(float scale) : scale_(scale) {}

  int64_t Round(int64_t, std::span<const float> targets, std::span<Code> codes,
                std::span<float> numbers) const {
    const int64_t saturated = QuantizeFloat8(targets, scale_, codes);
    DecodeFloat8(codes, numbers);
    return saturated;
  }
  float scale() const { return scale_; }

 private:
  float scale_;
};

// The grid of some rows: of each column's group a scale, and maybe a zero, for every lane.
class LaneGrid {
 public:
  using Code = float;
  LaneGrid(const RoundingGrid& grid, int64_t first_row, int64_t rows, int64_t lanes)
      : rule_(grid.numbers),
        group_(grid.group),
        lanes_(lanes),
        scales_(Transposed(grid, grid.scales, first_row, rows, lanes, 1.0f)),
        zeros_(grid.zeros.empty() ? std::vector<float>()
                                  : Transposed(grid, grid.zeros, first_row, rows, lanes, 0.0f)) {}

  int64_t Round(int64_t column, std::span<const float> targets, std::span<float> codes,
                std::span<float> numbers) const {
    constexpr float kOne = 1.0f;
    const float* scales = scales_.data() + column / group_ * lanes_;
    const float* zeros = zeros_.empty() ? nullptr : zeros_.data() + column / group_ * lanes_;
    for (std::size_t r = 0; r < codes.size(); ++r) codes[r] = targets[r] / scales[r];
    for (std::size_t r = 0; zeros != nullptr && r < codes.size(); ++r) codes[r] += zeros[r];
    RoundToGrid(codes, {std::span(&kOne, 1), std::ssize(codes)}, rule_);
    for (std::size_t r = 0; r < codes.size(); ++r) {
      numbers[r] = (zeros == nullptr ? codes[r] : codes[r] - zeros[r]) * scales[r];
    }
    return 0;
  }
  float scale() const { return 1.0f; }  // numbers have theirs

 private:
  static std::vector<float> Transposed(const RoundingGrid& grid, std::span<const float> values,
                                       int64_t first_row, int64_t rows, int64_t lanes,
                                       float beyond) {
    std::vector<float> transposed(static_cast<std::size_t>(grid.groups * lanes), beyond);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = values.data() + (first_row + r) / grid.block_rows * grid.groups;
      for (int64_t g = 0; g < grid.groups; ++g) {
        transposed[static_cast<std::size_t>(g * lanes + r)] = row[g];
      }
    }
    return transposed;
  }

  GridRule rule_;
  int64_t group_, lanes_;
  std::vector<float> scales_, zeros_;  // [groups, lanes]
};

// A chunk of rows with columns and rows swapped and the columns in the order of rounding, all
// blocks one after the other: SIMD lanes are rows of the weights. Rows past the last are zero.
template <typename Grid>
class Chunk {
 public:
  using Code = typename Grid::Code;
  Chunk(const CompensationFactor& factor, int64_t first_row, int64_t rows)
      : factor_(factor),
        first_row_(first_row),
        rows_(rows),
        lanes_(RoundUp(rows, kFeedbackLanes)),
        weights_(factor.columns() * lanes_),
        errors_(factor.columns() * lanes_),
        codes_(factor.columns() * lanes_),
        correction_(kLazyColumns * lanes_),
        target_(lanes_),
        decoded_(lanes_),
        compensated_squares_(lanes_),
        squares_(lanes_) {}

  void Gather(MatrixView<const float> weights);
  // Returns the error of the rows in the sense of CompensatedRounding.
  double Round(Target target, const Grid& grid);
  // Calls store(row, column, code) for all.
  template <typename Store>
  void Scatter(const Store& store) const;
  int64_t saturated() const { return saturated_; }

 private:
  template <typename T>
  MatrixView<T> Rows(AlignedBuffer<T>& buffer, int64_t first, int64_t count) {
    return {buffer.data() + first * lanes_, count, lanes_};
  }
  double RoundColumns(const CompensationFactor::Block& block, int64_t first, int64_t count,
                      Target target, const Grid& grid);
  void RoundColumn(int64_t column, std::span<const float> weights,
                   std::span<const float> correction, Target target, const Grid& grid,
                   std::span<Code> codes);

  const CompensationFactor& factor_;
  int64_t first_row_, rows_, lanes_;
  AlignedBuffer<float> weights_;     // [columns, lanes]
  AlignedBuffer<float> errors_;      // [columns, lanes]: weight less rounded weight
  AlignedBuffer<Code> codes_;        // [columns, lanes]
  AlignedBuffer<float> correction_;  // [kLazyColumns, lanes]
  AlignedBuffer<float> target_, decoded_, compensated_squares_, squares_;  // [lanes]
  int64_t saturated_ = 0;
};

template <typename Grid>
void Chunk<Grid>::Gather(MatrixView<const float> weights) {
  AlignedBuffer<float> memory(kGatherRows * factor_.columns());
  const MatrixView<float> rows(memory.data(), kGatherRows, factor_.columns());
  for (int64_t first = 0; first < lanes_; first += kGatherRows) {
    for (int64_t r = 0; r < kGatherRows; ++r) {
      if (first + r < rows_) {
        std::ranges::copy(weights.RowSpan(first_row_ + first + r), rows.Row(r));
      } else {
        std::ranges::fill(rows.RowSpan(r), 0.0f);
      }
    }
    for (const CompensationFactor::Block& block : factor_.blocks()) {
      for (int64_t i = 0; i < block.columns; ++i) {
        const int64_t column = block.first_column + block.order[i];
        float* to = weights_.data() + (block.first_column + i) * lanes_ + first;
        for (int64_t r = 0; r < kGatherRows; ++r) to[r] = rows.Row(r)[column];
      }
    }
  }
}

template <typename Grid>
template <typename Store>
void Chunk<Grid>::Scatter(const Store& store) const {
  for (int64_t first = 0; first < rows_; first += kGatherRows) {
    const int64_t last = std::min(rows_, first + kGatherRows);
    for (const CompensationFactor::Block& block : factor_.blocks()) {
      for (int64_t i = 0; i < block.columns; ++i) {
        const Code* from = codes_.data() + (block.first_column + i) * lanes_;
        const int64_t column = block.first_column + block.order[i];
        for (int64_t r = first; r < last; ++r) store(first_row_ + r, column, from[r]);
      }
    }
  }
}

template <typename Grid>
double Chunk<Grid>::Round(Target target, const Grid& grid) {
  saturated_ = 0;
  double error = 0.0;
  for (const CompensationFactor::Block& block : factor_.blocks()) {
    double block_error = 0.0;
    for (int64_t first = 0; first < block.columns; first += kLazyColumns) {
      const int64_t count = std::min(kLazyColumns, block.columns - first);
      block_error += RoundColumns(block, first, count, target, grid);
    }
    error += std::max(0.0, block_error);  // below 0 only by rounding, where all but damping is lost
  }
  return error;
}

template <typename Grid>
double Chunk<Grid>::RoundColumns(const CompensationFactor::Block& block, int64_t first,
                                 int64_t count, Target target, const Grid& grid) {
  const MatrixView<const float> feedback(block.feedback.data(), block.columns, block.columns);
  const MatrixView<float> correction = Rows(correction_, 0, count);
  std::ranges::fill(correction_.span(), 0.0f);
  for (int64_t j = 0; j < first;) {
    const int64_t depth = first - j >= kProductDepth ? kProductDepth : kLazyColumns;
    ProductAdd<float>(feedback.RowBlock(first, count).ColumnBlock(j, depth),
                      Rows(errors_, block.first_column + j, depth), correction);
    j += depth;
  }
  std::ranges::fill(compensated_squares_.span(), 0.0f);
  std::ranges::fill(squares_.span(), 0.0f);
  const MatrixView<float> weights = Rows(weights_, block.first_column + first, count);
  const MatrixView<float> errors = Rows(errors_, block.first_column + first, count);
  const MatrixView<Code> codes = Rows(codes_, block.first_column + first, count);
  for (int64_t i = 0; i < count; ++i) {
    AddFeedback({feedback.Row(first + i) + first, static_cast<std::size_t>(i)},
                errors.RowBlock(0, i), correction.RowSpan(i));
    RoundColumn(block.first_column + block.order[first + i], weights.RowSpan(i),
                correction.RowSpan(i), target, grid, codes.RowSpan(i));
    MeasureRounding(weights.RowSpan(i), correction.RowSpan(i), decoded_.span(), grid.scale(),
                    block.pivots[first + i], errors.RowSpan(i), compensated_squares_.span(),
                    squares_.span());
  }
  const auto sum = [](std::span<const float> x) {
    return std::accumulate(x.begin(), x.end(), 0.0);
  };
  return sum(compensated_squares_.span()) - block.lambda * sum(squares_.span());
}

template <typename Grid>
void Chunk<Grid>::RoundColumn(int64_t column, std::span<const float> weights,
                              std::span<const float> correction, Target target, const Grid& grid,
                              std::span<Code> codes) {
  if (target == Target::kCompensated) {
    AddCorrection(weights, correction, target_.span());
    weights = target_.span();
  }
  saturated_ += grid.Round(column, weights, codes, decoded_.span());
}

// Ranks of the job take about as many of `parts` parts each, one after the other.
int64_t FirstPart(int rank, int64_t parts) { return parts * rank / JobRanks().count(); }

// Every rank gets what the others did: of each part its result and the bytes of its codes,
// `part_codes` of them but for the last.
void ShareParts(std::span<CompensatedRounding> parts, int64_t part_codes,
                std::span<std::byte> codes) {
  Ranks& ranks = JobRanks();
  if (ranks.count() == 1) return;
  const auto results_of = [&](int rank) {
    const int64_t first = FirstPart(rank, std::ssize(parts));
    return std::as_writable_bytes(
        parts.subspan(static_cast<std::size_t>(first),
                      static_cast<std::size_t>(FirstPart(rank + 1, std::ssize(parts)) - first)));
  };
  const auto codes_of = [&](int rank) {
    const int64_t first = FirstPart(rank, std::ssize(parts)) * part_codes;
    const int64_t last = FirstPart(rank + 1, std::ssize(parts)) * part_codes;
    return codes.subspan(static_cast<std::size_t>(std::min(first, std::ssize(codes))),
                         static_cast<std::size_t>(std::min(last, std::ssize(codes)) -
                                                  std::min(first, std::ssize(codes))));
  };
  for (int rank = 0; rank < ranks.count(); ++rank) {
    ranks.Broadcast(results_of(rank), rank);
    ranks.Broadcast(codes_of(rank), rank);
  }
}

// All rows, a chunk at a time; grid_of(first row, rows): the grid of a chunk. `codes` is where they
// are stored.
template <typename Grid, typename GridOf, typename Store>
CompensatedRounding RoundAll(const CompensationFactor& factor, MatrixView<const float> weights,
                             const GridOf& grid_of, const Store& store,
                             std::span<std::byte> codes) {
  NARROW_CHECK(weights.columns == factor.columns());
  std::vector<CompensatedRounding> parts(DivideRoundUp(weights.rows, kRoundingChunkRows));
  const int64_t own = FirstPart(JobRanks().rank(), std::ssize(parts));
  ParallelFor(FirstPart(JobRanks().rank() + 1, std::ssize(parts)) - own, [&](int64_t item) {
    const int64_t part = own + item;
    const int64_t first = part * kRoundingChunkRows;
    const int64_t rows = std::min(kRoundingChunkRows, weights.rows - first);
    const Grid grid = grid_of(first, rows);
    Chunk<Grid> chunk(factor, first, rows);
    chunk.Gather(weights);
    parts[part].nearest_error = chunk.Round(Target::kWeight, grid);
    parts[part].error = chunk.Round(Target::kCompensated, grid);
    parts[part].saturated = chunk.saturated();
    chunk.Scatter(store);
  });
  const int64_t row_bytes = weights.rows == 0 ? 0 : std::ssize(codes) / weights.rows;
  ShareParts(parts, kRoundingChunkRows * row_bytes, codes);
  CompensatedRounding result;
  for (const CompensatedRounding& part : parts) {
    result.saturated += part.saturated;
    result.error += part.error;
    result.nearest_error += part.nearest_error;
  }
  return result;
}

}  // namespace

int64_t RoundingBytes(int64_t columns, int64_t threads, int64_t code_bytes) {
  // A chunk's weights, errors and codes, and the rows it gathers.
  const int64_t column_bytes =
      kRoundingChunkRows * (2 * static_cast<int64_t>(sizeof(float)) + code_bytes) +
      kGatherRows * static_cast<int64_t>(sizeof(float));
  const int64_t chunks = DivideRoundUp(RewriteRows(columns), kRoundingChunkRows);
  return std::min(threads, chunks) * columns * column_bytes;
}

CompensatedRounding RoundCompensated(const CompensationFactor& factor,
                                     MatrixView<const float> weights, float scale,
                                     std::span<std::byte> codes) {
  NARROW_CHECK(std::ssize(codes) == weights.rows * weights.columns);
  return RoundAll<Float8Grid>(
      factor, weights, [&](int64_t, int64_t) { return Float8Grid(scale); },
      [&](int64_t row, int64_t column, Float8E4M3 code) {
        codes[static_cast<std::size_t>(row * weights.columns + column)] = std::byte{code.bits};
      },
      codes);
}

CompensatedRounding RoundCompensated(const CompensationFactor& factor,
                                     MatrixView<const float> weights, const RoundingGrid& grid,
                                     MatrixView<float> numbers) {
  NARROW_CHECK(numbers.rows == weights.rows && numbers.columns == weights.columns &&
               numbers.stride == numbers.columns);
  return RoundAll<LaneGrid>(
      factor, weights,
      [&](int64_t first, int64_t rows) {
        return LaneGrid(grid, first, rows, RoundUp(rows, kFeedbackLanes));
      },
      [&](int64_t row, int64_t column, float number) { numbers.Row(row)[column] = number; },
      std::as_writable_bytes(
          std::span(numbers.data, static_cast<std::size_t>(numbers.rows * numbers.columns))));
}

}  // namespace narrow
