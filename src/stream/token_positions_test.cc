#include "stream/token_positions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "io/scratch_directory.h"
#include "stream/hidden_store.h"

namespace narrow {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(TokenPositions, AreOrderedByTokenThenByPlace) {
  const std::vector<int32_t> tokens = {7, 0, 7, 3, 0, 9};
  const TokenPositions positions(tokens);
  EXPECT_THAT(positions.Of(0, 10), ElementsAre(1, 4, 3, 0, 2, 5));
  EXPECT_THAT(positions.Of(1, 7), ElementsAre(3, 0, 2));
  EXPECT_THAT(positions.Of(7, 1), ElementsAre(0, 2));
  EXPECT_THAT(positions.Of(4, 3), IsEmpty());
  EXPECT_THAT(positions.Of(10, 100), IsEmpty());
  EXPECT_THAT(TokenPositions({}).Of(0, 10), IsEmpty());
}

// Rows that come in any order are where batches find them, in memory and on disk.
TEST(HiddenStore, FilledRowsAreThoseOfTheBatches) {
  constexpr int64_t kRows = 5, kWidth = 3;
  for (const Placement placement : {Placement::kMemory, Placement::kFile}) {
    const ScratchDirectory scratch;
    HiddenStore store(kRows, kWidth, placement, scratch.path() / "hidden");
    const auto fill = [&](std::vector<int64_t> rows) {
      store.Fill(rows, [&](std::size_t i, std::span<float> row) {
        for (std::size_t k = 0; k < row.size(); ++k) {
          row[k] = static_cast<float>(10 * rows[i]) + static_cast<float>(k);
        }
      });
    };
    fill({4, 0});
    fill({});
    fill({2, 3, 1});
    store.Advance();
    for (const Batch& batch : {Batch{0, 2, {}}, Batch{2, 3, {}}}) {
      const MatrixView<float> rows = store.Take(batch);
      for (int64_t row = 0; row < batch.rows; ++row) {
        const float first = static_cast<float>(10 * (batch.first_row + row));
        EXPECT_THAT(rows.RowSpan(row), ElementsAre(first, first + 1, first + 2));
      }
    }
  }
}

}  // namespace
}  // namespace narrow
