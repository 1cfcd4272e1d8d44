// A decoder layer in memory: packed for products once, rewritten in place as it becomes quantized.
// The stored weights are released when they are packed, unless the operands do not hold them
// exactly (F16 and F32 in bf16): those stay until their group is quantized.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/decoder_layer.h"
#include "model/stored_layer.h"

namespace narrow {

// One linear of a loaded layer: rows [first_row, first_row + rows) of its group.
struct LoadedLinear {
  LinearSpec spec;
  int64_t first_row = 0;
  float weight_amax = 0.0f;
  Dtype stored = Dtype::kBF16;  // of the numbers
};

// Packed weights are exactly the stored ones: bf16 operands hold neither F16 nor F32.
bool HoldsExactly(ComputeType operands, Dtype stored);

// What the KV cache of a layer holds whose cache is quantized.
enum class CacheContents { kQuantized, kOriginal };

// Calls visit(index of the linear, first of its rows counted from first_row, their number) for
// every linear with rows among [first_row, first_row + count) of its group.
template <typename Visit>
void ForEachLinearAmong(const std::vector<LoadedLinear>& linears, int64_t first_row, int64_t count,
                        const Visit& visit) {
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const int64_t from = std::max<int64_t>(0, linears[i].first_row - first_row);
    const int64_t to = std::min(count, linears[i].first_row + linears[i].spec.rows - first_row);
    if (from < to) visit(i, from, to - from);
  }
}

// Takes rows of a group, the first of which is first_row, and may change them. RewriteRows of them
// at a time, at most.
using RowsRewriter = std::function<void(int64_t first_row, MatrixView<float> rows)>;

// Takes bytes of a tensor as they lie in the checkpoint, from its first to its last.
using StoredBytesSink = std::function<void(const std::string& tensor, int64_t offset,
                                           std::span<const std::byte> bytes)>;

// Memory of a LoadedLayer: of its packed weights; beside them while it packs, a panel as stored and
// as packed; and while it is rewritten, a panel, the rows of it as f32, and what becomes of those.
int64_t PackedLayerBytes(const LayerSpec& spec, ComputeType compute);
int64_t PackingBytes(const LayerSpec& spec, ComputeType compute);
int64_t RewritingBytes(const LayerSpec& spec, ComputeType compute);

// Thread-compatible; uses all threads inside.
class LoadedLayer {
 public:
  // Packs the stored layer, panel by panel, releasing what was read ahead on the way. Quantized
  // linears become numbers with their scales in the runnable layer. Throws: kNumeric naming a
  // weight that holds NaN or infinity. REQUIRES: the linears of a group are all quantized or none
  // is.
  LoadedLayer(StoredLayer stored, ComputeType compute);

  const LayerSpec& spec() const { return stored_.spec; }
  const DecoderLayer& runnable() const { return runnable_; }
  const std::vector<LoadedLinear>& Linears(LinearGroup group) const {
    return linears_[static_cast<std::size_t>(group)];
  }

  // Rewrites a group's rows, panel after panel. `rows` holds the weights as f32, exactly as stored,
  // and takes the new E4M3 numbers; first_row counts in the group. Afterwards the group runs with
  // `scales`.
  void Quantize(LinearGroup group, const LinearScales& scales, const RowsRewriter& rewrite);
  // The same for a group that is quantized already: `rows` holds its E4M3 numbers.
  void Requantize(LinearGroup group, const LinearScales& scales, const RowsRewriter& rewrite);
  // Shows a group's rows as f32, exactly as stored, panel after panel; `read` may change its copy.
  // REQUIRES: the group is not quantized yet.
  void Read(LinearGroup group, const RowsRewriter& read) const;

  // Hands over what of the layer is not quantized, as it lies in the checkpoint: norms, biases, and
  // the weights of groups that still run as they were stored. Nothing is read again for it. Linears
  // that are parts of a tensor are left out.
  void CopyUnchanged(const StoredBytesSink& sink) const;

  // See DecoderLayer::attended_mixing.
  void SetAttendedMixing(std::vector<AlignedBuffer<float>>&& matrices) {
    runnable_.attended_mixing = std::move(matrices);
  }

  void SetCache(const CacheQuantization& cache) { runnable_.cache = cache_ = cache; }

  // What of quantized linears and of the cache runs quantized from now on; the rest as in the
  // original. Quantized weights always do.
  void Run(LinearInputs inputs, CacheContents cache, AttentionArithmetic attention);
  void SetAttention(AttentionArithmetic attention) { runnable_.attention = attention; }
  bool requantized() const { return requantized_; }
  // The checkpoint has the group's linears as E4M3 codes with one scale each.
  bool StoredAsFloat8Tensors(LinearGroup group) const;
  // It has each of them with a global scale that divides (compressed-tensors' two levels).
  bool StoredWithDivisors(LinearGroup group) const;
  // The same numbers with other scales. REQUIRES: the group is quantized.
  void Rescale(LinearGroup group, const LinearScales& scales);

 private:
  void PackGroup(LinearGroup group);
  void CopyGroup(LinearGroup group, const StoredBytesSink& sink) const;
  // The packed numbers are the stored ones, so that unpacking loses nothing.
  bool PackedExactly(LinearGroup group) const;
  // Rows from first_row as f32, exactly as stored; `unpacked`: the same as they are packed.
  void LoadRows(LinearGroup group, int64_t first_row, Operands unpacked,
                MatrixView<float> rows) const;
  template <typename Load>
  void RewritePanels(LinearGroup group, const Load& load, const RowsRewriter& rewrite);

  StoredLayer stored_;
  ComputeType compute_;
  DecoderLayer runnable_;
  std::optional<CacheQuantization> cache_;  // where it is quantized, run or not
  std::array<std::vector<LoadedLinear>, kLinearGroupCount> linears_;
  bool requantized_ = false;
};

}  // namespace narrow
