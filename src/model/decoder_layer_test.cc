// The forward step of one layer against transformers' in float32 (tests/golden/layer.json): grouped
// queries, biases, llama3 rotation, two texts of different lengths in one batch.
#include "model/decoder_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "model/family.h"
#include "model/reference.h"

namespace narrow {
namespace {

// Keeps what the layer shows: the largest input of each group, and all of K and V.
class Recorder final : public LayerObserver {
 public:
  Recorder(int64_t tokens, int64_t width)
      : keys(static_cast<std::size_t>(tokens * width)), values(keys.size()) {}

  void OnInput(LinearGroup group, int64_t, ConstOperands shown) override {
    const MatrixView<const float> rows = shown.As<float>();
    const std::lock_guard lock(mutex_);
    float& amax = inputs[static_cast<std::size_t>(group)];
    for (int64_t row = 0; row < rows.rows; ++row) {
      for (const float value : rows.RowSpan(row)) amax = std::max(amax, std::abs(value));
    }
  }
  void OnQueries(int64_t, ConstOperands) override {}
  void OnKeys(int64_t first_row, ConstOperands rows) override {
    Keep(first_row, rows.As<float>(), keys);
  }
  void OnValues(int64_t first_row, ConstOperands rows) override {
    Keep(first_row, rows.As<float>(), values);
  }

  std::array<float, kLinearGroupCount> inputs = {};
  std::vector<float> keys, values;  // [tokens, key-value width]

 private:
  static void Keep(int64_t first_row, MatrixView<const float> rows, std::vector<float>& to) {
    for (int64_t row = 0; row < rows.rows; ++row) {
      std::ranges::copy(rows.RowSpan(row), to.begin() + (first_row + row) * rows.columns);
    }
  }

  std::mutex mutex_;
};

class LayerReference : public testing::Test {
 protected:
  LayerReference()
      : reference_(ReadReference("layer.json")),
        config_(
            FindModelFamily(reference_["config"], "it").parse_config(reference_["config"], "it")) {
    for (const Json& text : reference_["inputs_in_256ths"]) {
      sequences_.push_back({tokens_, std::ssize(text)});
      tokens_ += std::ssize(text);
      for (const Json& row : text) Append256ths(row, hidden_);
    }
  }

  static void Append256ths(const Json& steps, std::vector<float>& to) {
    for (const Json& step : steps) to.push_back(step.get<float>() / 256.0f);
  }
  std::vector<float> Weights(const std::string& name) const {
    std::vector<float> values;
    Append256ths(reference_["weights_in_256ths"].at(name), values);
    return values;
  }
  // The names of the reference are those of the family without the layer's prefix.
  DecoderLayer Layer() const {
    DecoderLayer layer;
    layer.spec = FindModelFamily(reference_["config"], "it").layer(config_, 0);
    const auto set = [&](NormPlace place, const char* name) {
      layer.norms[static_cast<std::size_t>(place)] = Norm(*layer.spec.Norm(place), Weights(name));
    };
    set(NormPlace::kBeforeAttention, "input_layernorm.weight");
    set(NormPlace::kBeforeMlp, "post_attention_layernorm.weight");
    for (const LinearGroup group : kLinearGroups) {
      std::vector<float> weights, biases;
      for (const auto& [module, of_group] : kModules) {
        if (of_group != group) continue;
        for (const float value : Weights(std::string(module) + ".weight")) weights.push_back(value);
        for (const float value : Weights(std::string(module) + ".bias")) biases.push_back(value);
      }
      PackedWeights packed(ComputeType::kFloat32, std::ssize(biases),
                           std::ssize(weights) / std::ssize(biases));
      packed.Pack(MatrixView<const float>(weights.data(), packed.rows(), packed.columns()));
      layer.Linear(group) = FusedLinear(std::move(packed), {std::ssize(biases)}, biases);
    }
    return layer;
  }

  // Of all texts, one after the other.
  std::vector<float> Expected(const char* what) const {
    std::vector<float> values;
    for (const Json& text : reference_[what]) {
      for (const Json& row : text) {
        for (const float value : Floats(row)) values.push_back(value);
      }
    }
    return values;
  }

  static constexpr std::pair<const char*, LinearGroup> kModules[] = {
      {"self_attn.q_proj", LinearGroup::kQueryKeyValue},
      {"self_attn.k_proj", LinearGroup::kQueryKeyValue},
      {"self_attn.v_proj", LinearGroup::kQueryKeyValue},
      {"self_attn.o_proj", LinearGroup::kAttentionOutput},
      {"mlp.gate_proj", LinearGroup::kGateUp},
      {"mlp.up_proj", LinearGroup::kGateUp},
      {"mlp.down_proj", LinearGroup::kDown}};

  Json reference_;
  DecoderConfig config_;
  std::vector<Sequence> sequences_;
  int64_t tokens_ = 0;
  std::vector<float> hidden_;  // [tokens, hidden]
};

TEST_F(LayerReference, OutputsKeysValuesAndRangesAreThoseOfTransformers) {
  const DecoderLayer layer = Layer();
  const RopeTables rope(std::span(&layer.spec, 1), tokens_);
  Recorder recorder(tokens_, config_.key_value_width());
  BatchWorkspace workspace;
  ForwardLayer(layer, rope, sequences_, {hidden_.data(), tokens_, config_.hidden}, workspace,
               &recorder);
  using testing::FloatNear;
  using testing::Pointwise;
  EXPECT_THAT(hidden_, Pointwise(FloatNear(2e-5f), Expected("outputs")));
  EXPECT_THAT(recorder.keys, Pointwise(FloatNear(2e-5f), Expected("keys")));
  EXPECT_THAT(recorder.values, Pointwise(FloatNear(2e-5f), Expected("values")));
  for (const auto& [module, group] : kModules) {
    const auto amax = reference_["input_amax"].at(module).get<float>();
    EXPECT_NEAR(recorder.inputs[static_cast<std::size_t>(group)], amax, 1e-5f * amax) << module;
  }
}

}  // namespace
}  // namespace narrow
