// What of a model is in memory at a time: a layer without its experts, or some of its experts.
// Units are read one ahead, in the background; those of two checkpoints take turns.
#pragma once

#include <cstdint>
#include <future>
#include <vector>

#include "io/checkpoint_reader.h"
#include "model/loaded_layer.h"
#include "quantization/layer_quantizer.h"

namespace narrow {

// Of the checkpoints of a pass: the one it begins with, and one that is judged beside it.
enum class UnitOf { kSource, kJudged };

struct LayerUnit {
  UnitOf checkpoint = UnitOf::kSource;
  int64_t layer = 0;
  int64_t first_expert = 0;
  int64_t experts = 0;  // 0: the layer without experts
};

// What one expert of a layer takes among those in memory together: packed weights and, for
// compensated rounding, the sums of its second-order statistics. `quantization`: null where nothing
// is quantized.
int64_t ExpertBytes(const LayerSpec& layer, ComputeType compute,
                    const LayerQuantizationOptions* quantization);

// How many experts of a layer are in memory together, in `expert_bytes` or one: what changes no
// result, but how often the states of the texts pass by.
int64_t ExpertsTogether(const LayerSpec& layer, ComputeType compute,
                        const LayerQuantizationOptions* quantization, int64_t expert_bytes);

// Rows of a text that experts choose among at a time, where hidden states are in memory.
inline constexpr int64_t kExpertBatchRows = 16384;

// Input scales that are static are those of the layer, so that the ranges of all its experts are
// known before the first is quantized: those that do not fit together are read twice.
bool NeedsRangesOfAll(const LayerSpec& layer, const LayerQuantizationOptions* quantization);

// The units of the layers from `first_layer` on, in the order in which they are needed. With
// `judged`, each unit without experts, and the experts of each layer, are followed by those of the
// other checkpoint.
std::vector<LayerUnit> UnitsOf(const std::vector<LayerSpec>& layers, int64_t first_layer,
                               ComputeType compute, const LayerQuantizationOptions* quantization,
                               int64_t expert_bytes, bool judged);

// Where units come from. All outlive the reader.
struct UnitSource {
  const CheckpointReader* checkpoint = nullptr;
  const std::vector<LayerSpec>* layers = nullptr;
  std::optional<Dtype> dequantized;  // as OpenLayer
};

class UnitReader {
 public:
  // `sources`: by UnitOf.
  UnitReader(std::vector<UnitSource> sources, std::vector<LayerUnit> units, ComputeType compute,
             int64_t read_ahead_bytes);

  // The next unit, packed; the one after it is read meanwhile. Adds to `seconds` how long that
  // took. Throws: as OpenLayer and LoadedLayer.
  std::vector<LoadedLayer> Next(double& seconds);

 private:
  std::vector<StoredLayer> Open(const LayerUnit& unit) const;
  void ReadAhead();

  const std::vector<UnitSource> sources_;
  std::vector<SourceSchemes> schemes_;  // of each source
  const std::vector<LayerUnit> units_;
  const ComputeType compute_;
  const int64_t read_ahead_bytes_;
  std::size_t next_ = 0;
  std::future<std::vector<StoredLayer>> ahead_;
};

}  // namespace narrow
