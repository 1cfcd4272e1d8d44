#include "stream/hidden_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "io/scratch_directory.h"
#include "model/family.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

constexpr int64_t kRows = 7, kWidth = 5;
constexpr int64_t kBytes = kRows * kWidth * static_cast<int64_t>(sizeof(float));

class HiddenStoreTest : public testing::TestWithParam<Placement> {
 protected:
  std::filesystem::path base() const { return scratch_.path() / "hidden-original"; }
  HiddenStore Make() const { return {kRows, kWidth, GetParam(), base()}; }

  static std::vector<Batch> Batches() { return {{0, 3, {}}, {3, 1, {}}, {4, 3, {}}}; }
  static std::vector<Part> Parts() {
    std::vector<Part> parts;
    for (const Batch& batch : Batches()) parts.push_back({batch, 0});
    return parts;
  }

  // Row r, column c of generation g is 100 g + 10 r + c.
  static float Value(int generation, int64_t row, int64_t column) {
    return static_cast<float>(100 * generation + 10 * row + column);
  }
  static void FillAll(HiddenStore& store, int generation) {
    std::vector<int64_t> rows(kRows);
    std::iota(rows.rbegin(), rows.rend(), int64_t{0});
    store.Fill(rows, [&](std::size_t i, std::span<float> row) {
      for (int64_t k = 0; k < kWidth; ++k) {
        row[static_cast<std::size_t>(k)] = Value(generation, rows[i], k);
      }
    });
    store.Advance();
  }
  // What a layer does: a hundred more.
  static void PassLayer(HiddenStore& store, std::size_t batches = 3) {
    for (std::size_t i = 0; i < batches; ++i) {
      const Batch batch = Batches()[i];
      const MatrixView<float> rows = store.Take(batch);
      for (int64_t row = 0; row < rows.rows; ++row) {
        for (float& value : rows.RowSpan(row)) value += 100;
      }
      store.Put(batch);
    }
  }
  static void ExpectGeneration(HiddenStore& store, int generation) {
    for (const Batch& batch : Batches()) {
      const MatrixView<float> rows = store.Take(batch);
      ASSERT_EQ(rows.rows, batch.rows);
      ASSERT_EQ(rows.columns, kWidth);
      for (int64_t row = 0; row < rows.rows; ++row) {
        for (int64_t k = 0; k < kWidth; ++k) {
          EXPECT_EQ(rows.RowSpan(row)[static_cast<std::size_t>(k)],
                    Value(generation, batch.first_row + row, k));
        }
      }
    }
  }
  std::filesystem::path PathOf(int generation) const {
    return base().string() + (generation == 0 ? ".0" : ".1");
  }

  ScratchDirectory scratch_;
};

TEST_P(HiddenStoreTest, BatchesChangeFromLayerToLayer) {
  HiddenStore store = Make();
  FillAll(store, 0);
  ExpectGeneration(store, 0);
  for (int layer = 1; layer <= 3; ++layer) {
    PassLayer(store);
    store.Advance();
    ExpectGeneration(store, layer);
  }
  // A state of the memory takes no file.
  EXPECT_EQ(scratch_.Count(), GetParam() == Placement::kMemory ? 0 : 2);
}

TEST_P(HiddenStoreTest, WhatIsSavedIsLoadedByAnother) {
  HiddenStore store = Make();
  FillAll(store, 0);
  int generation = store.Save(Parts());
  for (int layer = 1; layer <= 3; ++layer) {
    PassLayer(store);
    store.Advance();
    const int before = generation;
    generation = store.Save(Parts());
    EXPECT_EQ(generation, 1 - before);
    ASSERT_EQ(std::filesystem::file_size(PathOf(generation)), static_cast<uintmax_t>(kBytes));
    // The state on disk names the generation before until it is replaced: that is still there.
    HiddenStore older = Make();
    older.Load(before, Parts());
    ExpectGeneration(older, layer - 1);
    HiddenStore newer = Make();
    newer.Load(generation, Parts());
    ExpectGeneration(newer, layer);
  }
}

// A layer that was interrupted begins again from what was saved before it.
TEST_P(HiddenStoreTest, AnInterruptedLayerBeginsAgain) {
  int saved = 0;
  {
    HiddenStore store = Make();
    FillAll(store, 0);
    PassLayer(store);
    store.Advance();
    saved = store.Save(Parts());
    PassLayer(store, 2);
  }
  HiddenStore store = Make();
  store.Load(saved, Parts());
  ExpectGeneration(store, 1);
  HiddenStore next = Make();
  next.Load(saved, Parts());
  PassLayer(next);
  next.Advance();
  ExpectGeneration(next, 2);
  EXPECT_EQ(next.Save(Parts()), 1 - saved);
}

TEST_P(HiddenStoreTest, FilesThatAreNotWhatWasSavedAreRefused) {
  HiddenStore store = Make();
  FillAll(store, 0);
  const int saved = store.Save(Parts());
  const auto expect_refused = [&](int generation, std::string_view fragment) {
    HiddenStore other = Make();
    ExpectError(ErrorCode::kCorruptInput, fragment, [&] { other.Load(generation, Parts()); });
    ExpectError(ErrorCode::kCorruptInput, "start over with --resume never",
                [&] { other.Load(generation, Parts()); });
  };
  expect_refused(1 - saved, "is missing or no file");
  std::filesystem::create_directory(PathOf(1 - saved));
  expect_refused(1 - saved, "is missing or no file");
  for (const int64_t bytes : {int64_t{0}, kBytes - 1, kBytes + 1, 2 * kBytes}) {
    std::filesystem::resize_file(PathOf(saved), static_cast<uintmax_t>(bytes));
    expect_refused(saved, fmt::format(" has {} bytes, expected {}", bytes, kBytes));
  }
  std::filesystem::remove(PathOf(saved));
  expect_refused(saved, "is missing or no file");
}

INSTANTIATE_TEST_SUITE_P(Placements, HiddenStoreTest,
                         testing::Values(Placement::kMemory, Placement::kFile),
                         [](const testing::TestParamInfo<Placement>& tested) {
                           return tested.param == Placement::kMemory ? "Memory" : "File";
                         });

TEST(HiddenStore, AFileThatShrinksWhileItIsReadIsNoticed) {
  const ScratchDirectory scratch;
  HiddenStore store(2, 2, Placement::kFile, scratch.path() / "hidden");
  store.Fill(std::vector<int64_t>{0, 1},
             [](std::size_t, std::span<float> row) { std::fill(row.begin(), row.end(), 1.0f); });
  store.Advance();
  store.Take({0, 1, {}});
  std::filesystem::resize_file(scratch.path() / "hidden.1", 12);
  ExpectError(ErrorCode::kCorruptInput, "hidden.1: the file ends at offset 12", [&] {
    store.Take({1, 1, {}});
  });
}

TEST(HiddenStates, OneThatIsNoNumberIsFoundWhereverItIs) {
  std::vector<float> states(kRows * kWidth, 3e38f);
  const MatrixView<const float> view(states.data(), kRows, kWidth);
  EXPECT_TRUE(AreFinite(view));
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    for (float& state : states) {
      const float good = std::exchange(state, bad);
      EXPECT_FALSE(AreFinite(view));
      state = good;
    }
  }
  EXPECT_TRUE(AreFinite(MatrixView<const float>(nullptr, 0, kWidth)));
}

TEST(HiddenStates, TheLayerTheyLeftIsNamed) {
  const Json config = PresetConfig("tiny");
  const ModelFamily& family = FindModelFamily(config, "preset");
  const LayerSpec layer = family.layer(family.parse_config(config, "preset"), 1);
  ExpectError(ErrorCode::kNumeric, layer.attention_module, [&] { FailStates(layer, "deployed"); });
  ExpectError(ErrorCode::kNumeric, "(deployed)", [&] { FailStates(layer, "deployed"); });
}

}  // namespace
}  // namespace narrow
