#include "stream/layer_progress.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "base/parallel.h"
#include "model/family.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

// Seconds of one layer of Llama 3.1 405B on two cores, as docs/memory.md gives them.
struct MeasuredLayer {
  double loading = 12.9;
  double calibration = 66.0;
  double quantization = 144.0;  // factors, rounding, probes
  double evaluation = 120.0;    // of the original, the deployed model and its parts
  double seconds() const { return loading + calibration + quantization + evaluation; }
};

// What a user is told, in the way ProgressDisplay works it out.
class Estimates final : public ProgressSink {
 public:
  struct Estimate {
    double elapsed = 0;
    double left = 0;
  };
  explicit Estimates(const double& now) : now_(now) {}

  void Info(std::string_view) override {}
  void Warning(std::string_view) override {}
  void BeginPhase(std::string_view, int64_t total, std::string_view unit) override {
    EXPECT_EQ(unit, kLayerParts);
    total_ = total;
    started_ = now_;
  }
  void Skip(int64_t done) override { done_ = skipped_ = done; }
  void Advance(int64_t done) override {
    EXPECT_GE(done, 0);
    done_ += done;
    EXPECT_LE(done_, total_);
    if (done_ == skipped_) return;
    const double elapsed = now_ - started_;
    given_.push_back({elapsed, elapsed * static_cast<double>(total_ - done_) /
                                   static_cast<double>(done_ - skipped_)});
  }
  void EndPhase() override { EXPECT_EQ(done_, total_); }

  // The largest error of an estimate given after `after` seconds, and the largest change between
  // two, as shares of the whole time.
  double WorstError(double after) const {
    double worst = 0;
    for (const Estimate& e : given_) {
      if (e.elapsed >= after) worst = std::max(worst, std::abs(e.elapsed + e.left - Whole()));
    }
    return worst / Whole();
  }
  double WorstJump(double after) const {
    double worst = 0;
    for (std::size_t i = 1; i < given_.size(); ++i) {
      const Estimate &a = given_[i - 1], &b = given_[i];
      if (a.elapsed < after) continue;
      worst = std::max(worst, std::abs(b.elapsed + b.left - a.elapsed - a.left));
    }
    return worst / Whole();
  }
  double Whole() const { return given_.back().elapsed; }

 private:
  const double& now_;
  double started_ = 0;
  int64_t total_ = 0, done_ = 0, skipped_ = 0;
  std::vector<Estimate> given_;
};

// A pass over layers of 405B, of 16 documents of 512 tokens and two windows of 2048, on a machine
// whose clock the test moves.
class LayerProgressTest : public testing::Test {
 protected:
  LayerProgressTest() {
    SetThreadCount(2);
    const Json json = PresetConfig("llama-3.1-405b");
    family_ = &FindModelFamily(json, "preset");
    config_ = family_->parse_config(json, "preset");
    options_.cache = CacheScheme::kFp8;
    options_.hessian_block_columns = 6656;
    calibration_ = Text(16, 512);
    windows_ = Text(2, 2048);
    probe_ = Text(2, 256);
    probe_.resize(1);
    SetUpPaces();
  }
  ~LayerProgressTest() override { SetThreadCount(0); }

  static std::vector<Batch> Text(int64_t sequences, int64_t length) {
    TokenStream stream;
    const std::vector<int32_t> text(static_cast<std::size_t>(length));
    for (int64_t i = 0; i < sequences; ++i) stream.Append(text);
    return MakeBatches(stream, 2048);
  }

  LayerCosts Costs(const LayerQuantizationOptions* options) const {
    return {family_->layer(config_, 0), ComputeType::kBfloat16, options};
  }

  double Planned(LayerWork work, const std::vector<Batch>& text) const {
    double seconds = 0;
    for (const Batch& batch : text) seconds += Costs(&options_).Text(work, batch);
    return seconds;
  }

  // Such that a layer takes what was measured.
  void SetUpPaces() {
    const LayerCosts costs = Costs(&options_);
    double quantization =
        static_cast<double>(costs.Probes()) * Planned(LayerWork::kProbing, probe_);
    for (const LinearGroup group : kLinearGroups) {
      quantization += costs.Factoring(group) + costs.Rounding(group, costs.RoundedRows(group));
    }
    const MeasuredLayer measured;
    pace_.fill(measured.quantization / quantization);
    Pace(LayerWork::kLoading) = measured.loading / costs.Loading();
    Pace(LayerWork::kCalibrating) =
        measured.calibration / Planned(LayerWork::kCalibrating, calibration_);
    // The original, the deployed model and two partly quantized ones.
    Pace(LayerWork::kOriginal) = Pace(LayerWork::kQuantized) =
        measured.evaluation / (4 * Planned(LayerWork::kOriginal, windows_));
  }
  double& Pace(LayerWork work) { return pace_[static_cast<std::size_t>(work)]; }

  void Spend(LayerWork work, double planned) { now_ += planned * Pace(work); }

  void Pass(LayerProgress& progress, const LayerCosts& costs, LayerWork work,
            const std::vector<Batch>& text) {
    for (const Batch& batch : text) {
      Spend(work, costs.Text(work, batch));
      progress.Passed(work, batch);
    }
  }

  void Round(LayerProgress& progress, const LayerCosts& costs, LinearGroup group) {
    Spend(LayerWork::kFactoring, costs.Factoring(group));
    progress.Factored(group);
    const int64_t step = group == LinearGroup::kDown ? 256 : 1024;
    for (int64_t rows = costs.RoundedRows(group); rows > 0; rows -= step) {
      Spend(LayerWork::kRounding, costs.Rounding(group, std::min(rows, step)));
      progress.Rounded(group, std::min(rows, step));
    }
  }

  void RunLayer(LayerProgress& progress, const LayerCosts& costs) {
    progress.BeginLayer(costs, {{LayerWork::kCalibrating, &calibration_},
                                {LayerWork::kProbing, &probe_},
                                {LayerWork::kOriginal, &windows_},
                                {LayerWork::kQuantized, &windows_},
                                {LayerWork::kQuantized, &windows_},
                                {LayerWork::kQuantized, &windows_}});
    Spend(LayerWork::kLoading, costs.Loading());
    progress.Loaded();
    Pass(progress, costs, LayerWork::kCalibrating, calibration_);
    Pass(progress, costs, LayerWork::kOriginal, windows_);
    Pass(progress, costs, LayerWork::kProbing, probe_);
    for (const LinearGroup group : kLinearGroups) {
      if (group == LinearGroup::kAttentionOutput) {
        Pass(progress, costs, LayerWork::kProbing, probe_);  // the cache
      }
      if (costs.RoundedRows(group) == 0) continue;
      Round(progress, costs, group);
      Pass(progress, costs, LayerWork::kProbing, probe_);
    }
    Spend(LayerWork::kDeploying, costs.Deploying());
    progress.Deployed();
    for (int i = 0; i < 3; ++i) Pass(progress, costs, LayerWork::kQuantized, windows_);
    progress.EndLayer();
  }

  Estimates Run(int64_t layers, int64_t finished = 0) {
    Estimates estimates(now_);
    LayerProgress progress(estimates, [this] { return now_; });
    const LayerCosts costs = Costs(&options_);
    progress.Begin("Quantizing", layers, finished);
    for (int64_t layer = finished; layer < layers; ++layer) RunLayer(progress, costs);
    progress.End();
    return estimates;
  }

  double now_ = 1000;
  const ModelFamily* family_ = nullptr;
  DecoderConfig config_;
  LayerQuantizationOptions options_;
  std::vector<Batch> calibration_, windows_, probe_;
  LayerSeconds pace_{};
};

TEST_F(LayerProgressTest, TheTimeLeftOfTwoLayersOf405BDoesNotJump) {
  const Estimates estimates = Run(2);
  EXPECT_NEAR(estimates.Whole(), 2 * MeasuredLayer().seconds(), 1);
  EXPECT_LT(estimates.WorstError(60), 0.15);
  EXPECT_LT(estimates.WorstJump(60), 0.05);
  EXPECT_LT(estimates.WorstError(MeasuredLayer().seconds()), 0.01);
}

TEST_F(LayerProgressTest, WhatWasPlannedWrongIsMeasuredInTheFirstLayer) {
  Pace(LayerWork::kRounding) *= 4;
  Pace(LayerWork::kFactoring) *= 4;
  Pace(LayerWork::kLoading) *= 5;
  const Estimates estimates = Run(5);
  EXPECT_GT(estimates.WorstError(0), 0.2);
  EXPECT_LT(estimates.WorstError(estimates.Whole() / 5), 0.01);
}

TEST_F(LayerProgressTest, LayersOfAnEarlierRunCountForNoTime) {
  const Estimates estimates = Run(5, 2);
  EXPECT_NEAR(estimates.Whole(), 3 * MeasuredLayer().seconds(), 1);
  EXPECT_LT(estimates.WorstError(60), 0.2);
}

TEST_F(LayerProgressTest, EveryChoiceEndsWithTheWhole) {
  const LayerSpec spec = family_->layer(config_, 0);
  for (const RoundingAlgorithm rounding :
       {RoundingAlgorithm::kNearest, RoundingAlgorithm::kCompensated}) {
    for (std::size_t kept = 0; kept <= spec.linears.size(); ++kept) {
      options_.rounding = rounding;
      options_.excluded.clear();
      for (std::size_t i = 0; i < kept; ++i) options_.excluded.insert(spec.linears[i].module);
      Run(3);  // Estimates checks the sum
    }
  }
}

}  // namespace
}  // namespace narrow
