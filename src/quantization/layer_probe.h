// What quantization does to the output of one layer, part by part: a few hundred rows of the
// original network's states go through the layer each time another part of it has become quantized.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "model/decoder_layer.h"
#include "text/token_stream.h"

namespace narrow {

// Texts a probe is made of, and the tokens of each.
inline constexpr int64_t kProbeSequences = 2;
inline constexpr int64_t kProbeTokens = 256;

// Squared change of the layer's output over its squared size, the mean over the tokens of a probe:
// relative token by token, as the norms that read the output are, so that the few tokens with very
// large states do not decide alone.
struct LayerErrors {
  // The change from the layer with the parts before to that with this one: q/k/v with their input,
  // the KV cache, o, gate/up, down. 0 for parts that stay as they are.
  std::array<double, kLinearGroupCount> groups{};
  double cache = 0.0;
  double all = 0.0;  // the change from the original layer to the quantized one

  double Group(LinearGroup group) const { return groups[static_cast<std::size_t>(group)]; }
  double Sum() const;  // of all parts
};

// The same of a layer of another checkpoint. Between its linears, channels may be scaled, turned or
// mixed, so that it does not mix with the original's: its parts are what of it runs quantized, from
// one stage to the next. 0 for stages that change nothing.
struct StageErrors {
  std::vector<double> stages;
  double all = 0.0;  // the change from the original layer to the last stage

  double Sum() const;
};

// The texts of a probe, from a longer stream: the beginnings of sequences spread over it.
TokenStream ProbeOf(const TokenStream& stream);

// Memory of a LayerProbe of `rows` rows: its outputs.
int64_t ProbeBytes(int64_t rows, int64_t hidden);

// Thread-compatible.
class LayerProbe {
 public:
  // Takes the rows, states of the original network, through the layer, which is not quantized yet.
  // They are a whole batch of `sequences`, those of this rank of the job; maybe none. The arguments
  // outlive the probe.
  LayerProbe(const DecoderLayer& layer, const RopeTables& rope, std::span<const Sequence> sequences,
             MatrixView<const float> rows, BatchWorkspace& workspace);

  // Another part of the layer has become quantized; nothing: the KV cache.
  void Step(std::optional<LinearGroup> part);

  // The same rows through another layer, in place of the first: the next stage of it.
  void StepTo(const DecoderLayer& layer, const RopeTables& rope);

  // Over the rows of all ranks, which come here together: of the steps of a layer that is
  // quantized, or of the stages of another.
  StageErrors Stages() const;
  LayerErrors Errors() const;
  // [rows, hidden], of the original layer: what the next layer's probe begins with.
  MatrixView<const float> original_output() const {
    return {original_.data(), rows_.rows, rows_.columns};
  }

 private:
  void Take(std::optional<LinearGroup> part, const DecoderLayer& layer, const RopeTables& rope);
  void Forward(const DecoderLayer& layer, const RopeTables& rope, AlignedBuffer<float>& output);
  // Of every step, and of the change from the original layer to where the last one led.
  std::vector<double> MeanErrors() const;
  // |a - b|^2 / |original|^2 of every row.
  std::vector<double> RelativeErrors(const AlignedBuffer<float>& a,
                                     const AlignedBuffer<float>& b) const;

  const DecoderLayer& layer_;
  const RopeTables& rope_;
  std::span<const Sequence> sequences_;
  MatrixView<const float> rows_;
  BatchWorkspace& workspace_;
  AlignedBuffer<float> original_, before_, now_;  // outputs, [rows, hidden]
  // Of every step: what has become quantized, and what that changed in each row.
  std::vector<std::pair<std::optional<LinearGroup>, std::vector<double>>> steps_;
};

}  // namespace narrow
