// How far a pass over the layers is, counted in time rather than in tokens: rounding, factors and
// probes take as much of it as the texts do. What each kind of work takes is planned for the first
// layer and measured from then on.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "model/spec.h"
#include "quantization/layer_quantizer.h"
#include "tensor/compute_type.h"
#include "text/token_stream.h"

namespace narrow {

// Kinds of work in a layer, whose paces are told apart.
enum class LayerWork {
  kLoading,      // waiting for its weights and packing them
  kCalibrating,  // a text through the original layer, with statistics
  kOriginal,     // a text through the original layer
  kFactoring,    // what precedes the rounding of a group
  kRounding,
  kProbing,
  kDeploying,
  kQuantized,  // a text through the quantized layer
  kExperts,    // all that is done with experts
};
inline constexpr std::size_t kLayerWorkCount = 9;
using LayerSeconds = std::array<double, kLayerWorkCount>;

// Seconds that the work of one layer takes on a machine of common proportions. Only their
// proportions matter.
class LayerCosts {
 public:
  // `quantization`: null when the layer is only evaluated.
  LayerCosts(const LayerSpec& spec, ComputeType compute,
             const LayerQuantizationOptions* quantization);

  // A layer of another checkpoint goes through with it, where a probe sees so many stages of it.
  void AddJudged(int64_t stages) {
    ++loads_;
    probes_ = 1 + stages;
  }

  double Loading() const { return loading_; }
  int64_t Loads() const { return loads_; }
  double Text(LayerWork work, const Batch& batch) const;
  double Factoring(LinearGroup group) const { return factoring_[Index(group)]; }
  double Rounding(LinearGroup group, int64_t rows) const {
    return static_cast<double>(rows) * rounding_row_[Index(group)];
  }
  double Deploying() const { return deploying_; }
  // All experts, with so many tokens of all texts.
  double Experts(int64_t tokens) const {
    return experts_ + static_cast<double>(tokens) * experts_of_token_;
  }
  int64_t RoundedRows(LinearGroup group) const { return rounded_rows_[Index(group)]; }
  // Times that a probe goes through the layer: as it was, and after each part is quantized.
  int64_t Probes() const { return probes_; }

 private:
  static std::size_t Index(LinearGroup group) { return static_cast<std::size_t>(group); }
  void AddGroup(const GroupSpec& group, const LayerQuantizationOptions& quantization);

  AttentionBlock attention_;
  int64_t linear_flops_;  // of a token
  double slower_ = 1;     // products than those in bf16
  double loading_ = 0;
  double statistics_ = 0;  // of a calibration token
  double deploying_ = 0;
  double experts_ = 0, experts_of_token_ = 0;
  int64_t loads_ = 1;
  int64_t probes_ = 0;
  std::array<double, kLinearGroupCount> factoring_{}, rounding_row_{};
  std::array<int64_t, kLinearGroupCount> rounded_rows_{};
};

// Tells a sink how far a pass is, as kLayerParts. Thread-compatible.
class LayerProgress {
 public:
  struct Text {
    LayerWork work = LayerWork::kOriginal;
    const std::vector<Batch>* batches = nullptr;  // kProbing: one
  };
  using Clock = std::function<double()>;  // seconds; never goes back

  LayerProgress(ProgressSink& sink, Clock clock);
  static double SteadySeconds();

  // A phase of `layers`, of which an earlier run finished `finished`.
  void Begin(std::string_view name, int64_t layers, int64_t finished);
  // The next layer, and the texts that go through it.
  void BeginLayer(const LayerCosts& costs, const std::vector<Text>& texts);
  // Work of this layer is done; the time since the last call was spent on it.
  void Loaded() { Add(LayerWork::kLoading, costs_->Loading()); }
  void Passed(LayerWork work, const Batch& batch) { Add(work, costs_->Text(work, batch)); }
  void Factored(LinearGroup group) { Add(LayerWork::kFactoring, costs_->Factoring(group)); }
  void Rounded(LinearGroup group, int64_t rows) {
    Add(LayerWork::kRounding, costs_->Rounding(group, rows));
  }
  void Deployed() { Add(LayerWork::kDeploying, costs_->Deploying()); }
  void PassedExperts(double share) { Add(LayerWork::kExperts, share * expert_seconds_); }
  void EndLayer();
  void End() { sink_.EndPhase(); }

 private:
  void Add(LayerWork work, double planned);
  double Pace(std::size_t work) const;
  void Report(double share);

  ProgressSink& sink_;
  Clock clock_;
  double last_ = 0;                            // when the last call was
  std::optional<LayerCosts> costs_;            // of this layer
  LayerSeconds pace_{};                        // seconds for a planned one, as this layer counts
  LayerSeconds planned_{}, measured_{};        // in all layers so far
  double expert_seconds_ = 0;                  // planned, of this layer
  double layer_seconds_ = 0, layer_done_ = 0;  // expected, of this layer
  int64_t reported_ = 0;                       // parts of this layer
};

}  // namespace narrow
