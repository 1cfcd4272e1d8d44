// One decoder layer over a batch of tokens: the forward step every phase shares.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/operations.h"
#include "model/fused_linear.h"
#include "model/layer_groups.h"
#include "model/norm.h"
#include "model/rope.h"
#include "model/routing.h"
#include "model/spec.h"
#include "tensor/tensor.h"

namespace narrow {

// The KV cache as a serving engine stores it: K after the rotation and V, in E4M3; and the scale of
// Q after the rotation, where attention is computed in FP8.
struct CacheQuantization {
  float key_scale = 1.0f;
  float value_scale = 1.0f;
  float query_scale = 1.0f;
  // Of each key-value head, in place of one for all; empty: one for all.
  std::vector<float> key_scales = {};
  std::vector<float> value_scales = {};
};

// What latent attention is served with, whatever scales its checkpoint has: vLLM 0.32 loads none
// of them (docs/formats/checkpoint.md).
inline CacheQuantization ServedLatentCache() { return {}; }

// How attention runs over a quantized cache.
enum class AttentionArithmetic {
  kDequantized,  // K and V as numbers, all else as without a cache
  // Queries in E4M3 at their scale and probabilities as ProbabilityRounding::kFloat8 says, too.
  kFloat8,
};

// A layer ready to run.
struct DecoderLayer {
  LayerSpec spec;
  std::array<Norm, kNormPlaceCount> norms;             // where the spec has them
  std::array<FusedLinear, kLinearGroupCount> linears;  // by LinearGroup, where the spec has them
  std::map<std::string, std::vector<float>> plain;     // PlainTensors of the spec, by name
  std::optional<CacheQuantization> cache;
  AttentionArithmetic attention = AttentionArithmetic::kDequantized;  // where there is a cache
  // What every head of attention's output is multiplied by before o: a matrix [head size, head
  // size] for each key-value head. Empty for none.
  std::vector<AlignedBuffer<float>> attended_mixing;

  FusedLinear& Linear(LinearGroup group) { return linears[static_cast<std::size_t>(group)]; }
  const FusedLinear& Linear(LinearGroup group) const {
    return linears[static_cast<std::size_t>(group)];
  }
  std::span<const float> Plain(const std::string& name) const { return plain.at(name); }
  // Null where the layer has none.
  const Norm* NormAt(NormPlace place) const {
    return spec.Norm(place) ? &norms[static_cast<std::size_t>(place)] : nullptr;
  }
};

// Watches a forward step. Called concurrently from several threads, each call with other rows.
class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  // Input rows of a group's linears, before any quantization; `first_row` counts in the batch.
  virtual void OnInput(LinearGroup group, int64_t first_row, ConstOperands rows) = 0;
  // Q after norm and rotation, of all heads.
  virtual void OnQueries(int64_t first_row, ConstOperands rows) = 0;
  // K (after norm and rotation) and V of all heads, as the cache receives them.
  virtual void OnKeys(int64_t first_row, ConstOperands rows) = 0;
  virtual void OnValues(int64_t first_row, ConstOperands rows) = 0;
};

// Buffers of a batch, reused from batch to batch and layer to layer.
struct BatchWorkspace {
  OperandBuffer projected;             // [tokens, what attention computes of the hidden states]
  OperandBuffer attended;              // [tokens, inputs of o]
  AlignedBuffer<float> rates;          // of a DeltaNet: [2, tokens, value heads]
  OperandBuffer index;                 // of an indexer: its q and k
  AlignedBuffer<float> index_weights;  // [tokens, heads]
  AlignedBuffer<uint8_t> selected;     // [tokens, longest text]
};

// hidden [tokens, hidden] (f32, the residual stream) becomes the layer's output; of a layer with
// experts, what it is without them: what they read and how tokens are routed is left in `routed`,
// for ForwardExpert. `sequences`
// partition the rows; position 0 is the first token of each. `observer` may be null. Uses all
// threads; results depend neither on their number nor on how sequences are batched.
void ForwardLayer(const DecoderLayer& layer, const RopeTables& rope,
                  std::span<const Sequence> sequences, MatrixView<float> hidden,
                  BatchWorkspace& workspace, LayerObserver* observer,
                  const RoutedRows* routed = nullptr);

// Multiply-adds, counted as two operations each, of a layer's attention over a text.
int64_t AttentionFlops(const AttentionBlock& attention, int64_t tokens);
inline int64_t AttentionFlops(const LayerSpec& spec, int64_t tokens) {
  return AttentionFlops(spec.attention, tokens);
}

// Rows of a batch that one thread takes through a chain of products at a time.
int64_t TileRows(int64_t hidden);

// Memory of a BatchWorkspace for `rows` tokens, and of what each thread of ForwardLayer keeps: its
// buffers of a tile, and the output of the widest panel of a product.
int64_t WorkspaceBytes(const LayerSpec& spec, int64_t rows, ComputeType compute);
int64_t TileBytes(const LayerSpec& spec, ComputeType compute);

}  // namespace narrow
