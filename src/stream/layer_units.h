// What of a model is in memory at a time: a layer without its experts, or some of its experts.
// Units are read one ahead, in the background.
#pragma once

#include <cstdint>
#include <future>
#include <vector>

#include "io/checkpoint_reader.h"
#include "model/loaded_layer.h"
#include "quantization/layer_quantizer.h"

namespace narrow {

struct LayerUnit {
  int64_t layer = 0;
  int64_t first_expert = 0;
  int64_t experts = 0;  // 0: the layer without experts
};

// How many experts of a layer are in memory together: what changes no result, but how often the
// states of the texts pass by. `quantization`: null where nothing is quantized.
int64_t ExpertsTogether(const LayerSpec& layer, ComputeType compute,
                        const LayerQuantizationOptions* quantization);

// The units of the layers from `first_layer` on, in the order in which they are needed. Experts
// that do not fit together come twice where they are quantized: input scales are those of the
// layer, so that ranges of all of them are known before the first is.
std::vector<LayerUnit> UnitsOf(const std::vector<LayerSpec>& layers, int64_t first_layer,
                               ComputeType compute, const LayerQuantizationOptions* quantization);

class UnitReader {
 public:
  // All outlive it. `dequantized`: as OpenLayer.
  UnitReader(const CheckpointReader& checkpoint, const std::vector<LayerSpec>& layers,
             std::vector<LayerUnit> units, ComputeType compute, int64_t read_ahead_bytes,
             std::optional<Dtype> dequantized);

  // The next unit, packed; the one after it is read meanwhile. Adds to `seconds` how long that
  // took. Throws: as OpenLayer and LoadedLayer.
  std::vector<LoadedLayer> Next(double& seconds);

 private:
  std::vector<StoredLayer> Open(const LayerUnit& unit) const;
  void ReadAhead();

  const CheckpointReader& checkpoint_;
  const SourceSchemes schemes_;
  const std::vector<LayerSpec>& layers_;
  const std::vector<LayerUnit> units_;
  const ComputeType compute_;
  const int64_t read_ahead_bytes_;
  const std::optional<Dtype> dequantized_;
  std::size_t next_ = 0;
  std::future<std::vector<StoredLayer>> ahead_;
};

}  // namespace narrow
