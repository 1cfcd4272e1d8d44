#include "stream/layer_units.h"

#include <algorithm>
#include <chrono>

#include "base/parallel.h"
#include "model/layer_groups.h"

namespace narrow {
namespace {

// Of experts that are in memory together, packed and with their statistics.
constexpr int64_t kExpertBytes = int64_t{512} << 20;

}  // namespace

int64_t ExpertsTogether(const LayerSpec& layer, ComputeType compute,
                        const LayerQuantizationOptions* quantization) {
  if (!layer.experts) return 0;
  const LayerSpec expert = ExpertLayer(layer, 0);
  int64_t each = PackedLayerBytes(expert, compute);
  if (quantization != nullptr) {
    each += BytesToQuantize(expert, *quantization, 0, compute, ThreadCount()).second_order;
  }
  return std::clamp<int64_t>(kExpertBytes / each, 1, layer.experts->count);
}

std::vector<LayerUnit> UnitsOf(const std::vector<LayerSpec>& layers, int64_t first_layer,
                               ComputeType compute, const LayerQuantizationOptions* quantization) {
  std::vector<LayerUnit> units;
  for (int64_t i = first_layer; i < std::ssize(layers); ++i) {
    units.push_back({i, 0, 0});
    const LayerSpec& layer = layers[static_cast<std::size_t>(i)];
    if (!layer.experts) continue;
    const int64_t count = layer.experts->count;
    const int64_t together = ExpertsTogether(layer, compute, quantization);
    const int times = quantization != nullptr && together < count ? 2 : 1;
    for (int time = 0; time < times; ++time) {
      for (int64_t first = 0; first < count; first += together) {
        units.push_back({i, first, std::min(together, count - first)});
      }
    }
  }
  return units;
}

UnitReader::UnitReader(const CheckpointReader& checkpoint, const std::vector<LayerSpec>& layers,
                       std::vector<LayerUnit> units, ComputeType compute, int64_t read_ahead_bytes,
                       std::optional<Dtype> dequantized)
    : checkpoint_(checkpoint),
      schemes_(checkpoint),
      layers_(layers),
      units_(std::move(units)),
      compute_(compute),
      read_ahead_bytes_(read_ahead_bytes),
      dequantized_(dequantized) {
  ReadAhead();
}

std::vector<StoredLayer> UnitReader::Open(const LayerUnit& unit) const {
  const LayerSpec& layer = layers_[static_cast<std::size_t>(unit.layer)];
  std::vector<StoredLayer> opened;
  if (unit.experts == 0) {
    opened.push_back(OpenLayer(checkpoint_, schemes_, layer, read_ahead_bytes_, dequantized_));
    return opened;
  }
  int64_t left = read_ahead_bytes_;
  for (int64_t e = unit.first_expert; e < unit.first_expert + unit.experts; ++e) {
    opened.push_back(OpenLayer(checkpoint_, schemes_, ExpertLayer(layer, e), left, dequantized_));
    for (const StoredLinear& linear : opened.back().linears) left -= linear.weight.bytes();
    left = std::max<int64_t>(left, 0);
  }
  return opened;
}

void UnitReader::ReadAhead() {
  if (next_ == units_.size()) return;
  ahead_ = std::async(std::launch::async, [this, unit = units_[next_]] { return Open(unit); });
}

std::vector<LoadedLayer> UnitReader::Next(double& seconds) {
  const auto start = std::chrono::steady_clock::now();
  NARROW_CHECK(next_ < units_.size());
  std::vector<LoadedLayer> loaded;
  {
    std::vector<StoredLayer> stored = ahead_.get();
    for (StoredLayer& layer : stored) loaded.emplace_back(std::move(layer), compute_);
  }
  ++next_;
  // Not before the unit is packed: what was read ahead and what is packed would add up.
  ReadAhead();
  seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return loaded;
}

}  // namespace narrow
