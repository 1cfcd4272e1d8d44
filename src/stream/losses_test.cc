#include "stream/losses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <utility>

#include "base/error.h"
#include "io/scratch_directory.h"
#include "kernels/operand_types.h"
#include "model/model_source.h"
#include "model/stored_layer.h"
#include "stream/head_packer.h"
#include "synthesis/checkpoint.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

constexpr int64_t kVocabulary = 5000;  // five panels, the last one not full
constexpr int64_t kWindows = 3;
constexpr int64_t kWindowTokens = 100;
constexpr std::size_t kNetworks = 3;

class LossesTest : public testing::Test {
 protected:
  LossesTest() {
    SynthesizeRequest request;
    request.output_directory = scratch_.path() / "model";
    request.config = PresetConfig("tiny");
    request.config["vocab_size"] = kVocabulary;
    request.config_name = "tiny with a larger vocabulary";
    SilentProgress progress;
    RunSynthesize(request, progress);
    model_ = OpenModel(request.output_directory, WeightState::kOriginal);
    std::mt19937 random(7);
    std::vector<int32_t> window(kWindowTokens);
    for (int64_t i = 0; i < kWindows; ++i) {
      for (int32_t& token : window) {
        token = static_cast<int32_t>(random() % static_cast<uint32_t>(kVocabulary));
      }
      tokens_.Append(window);
    }
    // An original, and variants that differ from it by little and by more.
    std::normal_distribution<float> normal;
    for (std::size_t n = 0; n < kNetworks; ++n) {
      hidden_.emplace_back(tokens_.tokens.size() * Width());
      for (std::size_t i = 0; i < hidden_[n].size(); ++i) {
        const float noise = normal(random);
        hidden_[n][i] = n == 0 ? noise : hidden_[0][i] + 0.1f * static_cast<float>(n) * noise;
      }
    }
  }

  std::size_t Width() const { return static_cast<std::size_t>(model_.config.hidden); }

  // Rows of one network, window after window.
  void Fill(HiddenStore& store, std::size_t network, std::span<const int64_t> windows) const {
    std::vector<int64_t> rows(windows.size() * std::size_t{kWindowTokens});
    std::iota(rows.begin(), rows.end(), int64_t{0});
    store.Fill(rows, [&](std::size_t i, std::span<float> row) {
      const int64_t token = windows[i / std::size_t{kWindowTokens}] * kWindowTokens +
                            static_cast<int64_t>(i) % kWindowTokens;
      std::copy_n(hidden_[network].data() + token * model_.config.hidden, row.size(), row.data());
    });
    store.Advance();
  }

  template <typename T>
  Losses Compute(int64_t slice_rows, Placement placement = Placement::kMemory,
                 int64_t batch_rows = 200, const PackedWeights* head = nullptr) {
    const std::vector<Part> parts = DivideInRounds(tokens_, batch_rows);
    const std::vector<int64_t> all = {0, 1, 2};
    std::vector<std::unique_ptr<HiddenStore>> stores;
    LossRequest request;
    for (std::size_t n = 0; n < kNetworks; ++n) {
      stores.push_back(std::make_unique<HiddenStore>(tokens_.size(), model_.config.hidden,
                                                     placement,
                                                     scratch_.path() / fmt::format("hidden{}", n)));
      Fill(*stores[n], n, all);
      request.hidden.push_back(stores[n].get());
    }
    // The first variant again, as it is on some of the windows.
    HiddenStore partial(std::ssize(partial_windows_) * kWindowTokens, model_.config.hidden,
                        placement, scratch_.path() / "partial");
    if (!partial_windows_.empty()) {
      Fill(partial, 1, partial_windows_);
      request.partial_sequences = partial_windows_;
      request.partial_ranks.assign(partial_windows_.size(), 0);
      request.partial_hidden = {&partial};
    }
    const NormSpec spec = model_.family->model(model_.config).final_norm;
    const Norm norm = MakeNorm(spec, ReadNorm(*model_.checkpoint, spec));
    request.head = {model_.checkpoint.get(), model_.family, &model_.config, &norm, head};
    request.compute = kComputeTypeOf<T>;
    request.head_slice_rows = slice_rows;
    request.tokens = &tokens_;
    request.parts = parts;
    SilentProgress progress;
    return ComputeLosses(request, progress);
  }

  // The loss of one token of the original in f64, the plain way.
  double DirectLoss(const std::vector<float>& head, const std::vector<float>& norm,
                    std::size_t token) const {
    const std::size_t width = Width();
    const float* row = hidden_[0].data() + token * width;
    double squares = 0;
    for (std::size_t k = 0; k < width; ++k) squares += double{row[k]} * double{row[k]};
    const double scale =
        1 / std::sqrt(squares / static_cast<double>(width) + double{model_.config.norm_epsilon});
    double sum = 0, right = 0;
    for (std::size_t v = 0; v < static_cast<std::size_t>(kVocabulary); ++v) {
      double logit = 0;
      for (std::size_t k = 0; k < width; ++k) {
        logit += double{head[v * width + k]} * double{norm[k]} * double{row[k]} * scale;
      }
      sum += std::exp(logit);
      if (static_cast<int32_t>(v) == tokens_.tokens[token + 1]) right = logit;
    }
    return std::log(sum) - right;
  }

  ScratchDirectory scratch_;
  ModelSource model_;
  TokenStream tokens_;
  std::vector<std::vector<float>> hidden_;  // by network: [tokens, width]
  std::vector<int64_t> partial_windows_;
};

void ExpectSameBits(const Estimate& a, const Estimate& b) {
  EXPECT_EQ(a.mean, b.mean);
  EXPECT_EQ(a.standard_error, b.standard_error);
}

void ExpectSameBits(const Losses& a, const Losses& b) {
  EXPECT_EQ(a.window_nll, b.window_nll);
  EXPECT_EQ(a.flops, b.flops);
  ASSERT_EQ(a.variants.size(), b.variants.size());
  for (std::size_t v = 0; v < a.variants.size(); ++v) {
    const DivergenceSummary& x = a.variants[v];
    const DivergenceSummary& y = b.variants[v];
    EXPECT_EQ(x.window_nll, y.window_nll);
    EXPECT_EQ(x.original_window_nll, y.original_window_nll);
    ExpectSameBits(x.kl, y.kl);
    EXPECT_EQ(x.kl_median, y.kl_median);
    EXPECT_EQ(x.kl_maximum, y.kl_maximum);
    ExpectSameBits(x.top1_agreement, y.top1_agreement);
    ExpectSameBits(x.top1_in_top5, y.top1_in_top5);
    ExpectSameBits(x.top5_overlap, y.top5_overlap);
    ExpectSameBits(x.probability_change, y.probability_change);
    ASSERT_EQ(x.worst.size(), y.worst.size());
    for (std::size_t i = 0; i < x.worst.size(); ++i) {
      EXPECT_EQ(x.worst[i].position, y.worst[i].position);
      EXPECT_EQ(x.worst[i].nll_increase, y.worst[i].nll_increase);
    }
  }
}

TEST_F(LossesTest, AreThoseOfPlainArithmetic) {
  const ModelSpec spec = model_.family->model(model_.config);
  const std::vector<float> head = ReadFloats(*model_.checkpoint, spec.lm_head);
  const std::vector<float> norm = ReadFloats(*model_.checkpoint, spec.final_norm.weight);
  const Losses losses = Compute<float>(2048);
  ASSERT_EQ(losses.window_nll.size(), std::size_t{kWindows});
  for (std::size_t window = 0; window < losses.window_nll.size(); ++window) {
    double sum = 0;
    for (std::size_t i = 0; i + 1 < std::size_t{kWindowTokens}; ++i) {
      sum += DirectLoss(head, norm, window * std::size_t{kWindowTokens} + i);
    }
    EXPECT_NEAR(losses.window_nll[window], sum / (kWindowTokens - 1), 1e-5);
  }
  // The second variant is further away than the first.
  ASSERT_EQ(losses.variants.size(), 2u);
  EXPECT_GT(losses.variants[0].kl.mean, 0);
  EXPECT_GT(losses.variants[1].kl.mean, losses.variants[0].kl.mean);
  EXPECT_LT(losses.variants[1].top5_overlap.mean, losses.variants[0].top5_overlap.mean);
}

TEST_F(LossesTest, SlicesOfTheHeadChangeNothing) {
  const Losses whole = Compute<float>(kVocabulary);
  for (const int64_t rows : {int64_t{1}, int64_t{1024}, int64_t{2500}, kVocabulary - 1}) {
    SCOPED_TRACE(rows);
    ASSERT_LT(HeadSliceRows(kVocabulary, rows), kVocabulary);
    ExpectSameBits(Compute<float>(rows), whole);
  }
}

TEST_F(LossesTest, SlicesOfTheHeadChangeNothingInBfloat16) {
  if (!HasProducts(ComputeType::kBfloat16)) GTEST_SKIP() << "this CPU has no products of bf16";
  const Losses whole = Compute<Bfloat16>(kVocabulary);
  for (const int64_t rows : {int64_t{1}, int64_t{1024}, int64_t{2500}, kVocabulary - 1}) {
    SCOPED_TRACE(rows);
    ExpectSameBits(Compute<Bfloat16>(rows), whole);
  }
}

// Packed on the way of other chunks than those of 32 MiB, and at another time.
TEST_F(LossesTest, AHeadThatIsThereIsNotRead) {
  if (!HasProducts(ComputeType::kBfloat16)) GTEST_SKIP() << "this CPU has no products of bf16";
  const std::string name = model_.family->model(model_.config).lm_head;
  const CheckpointReader::TensorLocation& location = model_.checkpoint->Get(name);
  std::vector<std::byte> bytes(static_cast<std::size_t>(location.entry.bytes()));
  model_.checkpoint->Read(location, bytes);
  HeadPacker packer(model_.config, ComputeType::kBfloat16, location.entry.dtype, kVocabulary);
  const std::size_t chunk = bytes.size() / std::size_t{kVocabulary} * 777;
  for (std::size_t first = 0; first < bytes.size(); first += chunk) {
    packer.Add(std::span(bytes).subspan(first, std::min(chunk, bytes.size() - first)));
  }
  const PackedWeights head = std::move(packer).Take();
  const Losses read = Compute<Bfloat16>(kVocabulary);
  const int64_t before = model_.checkpoint->traffic().bytes;
  ExpectSameBits(Compute<Bfloat16>(1024, Placement::kMemory, 200, &head), read);
  const int64_t norm = model_.config.hidden * 2;
  EXPECT_EQ(model_.checkpoint->traffic().bytes - before, norm);
}

// Networks that saw two of the three windows: the same outcomes as on these windows among all.
TEST_F(LossesTest, PartsOfTheTextAreComparedByThemselves) {
  partial_windows_ = {0, 2};
  const Losses losses = Compute<float>(2048);
  EXPECT_EQ(losses.window_nll, Compute<float>(2048).window_nll);
  ASSERT_EQ(losses.partial.size(), 2u);
  for (std::size_t v = 0; v < 2; ++v) {
    const DivergenceSummary& whole = losses.variants[v];
    const DivergenceSummary& part = losses.partial[v];
    EXPECT_EQ(part.window_kl, (std::vector<double>{whole.window_kl[0], whole.window_kl[2]}));
    EXPECT_EQ(part.window_nll, (std::vector<double>{whole.window_nll[0], whole.window_nll[2]}));
  }
  EXPECT_EQ(Compute<float>(1024, Placement::kFile).partial[0].window_kl,
            losses.partial[0].window_kl);
}

TEST_F(LossesTest, NeitherDoBatchesNorPlaces) {
  const Losses whole = Compute<float>(kVocabulary);
  ExpectSameBits(Compute<float>(1024, Placement::kFile), whole);
  ExpectSameBits(Compute<float>(2048, Placement::kFile, 1), whole);
  ExpectSameBits(Compute<float>(kVocabulary, Placement::kMemory, 100000), whole);
}

}  // namespace
}  // namespace narrow
