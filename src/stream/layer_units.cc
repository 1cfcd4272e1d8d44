#include "stream/layer_units.h"

#include <algorithm>
#include <chrono>

#include "model/layer_groups.h"

namespace narrow {

int64_t ExpertBytes(const LayerSpec& layer, ComputeType compute,
                    const LayerQuantizationOptions* quantization) {
  const LayerSpec expert = ExpertLayer(layer, 0);
  const bool compensated =
      quantization != nullptr && quantization->rounding == RoundingAlgorithm::kCompensated;
  int64_t bytes = PackedLayerBytes(expert, compute);
  for (const GroupSpec& group : GroupsOf(expert)) {
    if (!compensated) break;
    bytes += HessianAccumulator::Bytes(group.columns, quantization->hessian_block_columns, compute);
  }
  return bytes;
}

int64_t ExpertsTogether(const LayerSpec& layer, ComputeType compute,
                        const LayerQuantizationOptions* quantization, int64_t expert_bytes) {
  return std::clamp<int64_t>(expert_bytes / ExpertBytes(layer, compute, quantization), 1,
                             layer.experts->count);
}

bool NeedsRangesOfAll(const LayerSpec& layer, const LayerQuantizationOptions* quantization) {
  if (quantization == nullptr) return false;
  const std::string& module = layer.experts->linears.front().module;
  if (quantization->excluded.contains(module)) return false;
  if (!quantization->schemes) return true;
  const auto scheme = quantization->schemes->of_modules.find(module);
  if (scheme == quantization->schemes->of_modules.end()) return false;  // they stay
  const std::optional<TensorScheme>& input = scheme->second.input;
  return input &&
         (input->timing == Timing::kStatic || input->scale == ScaleFormat::kE4M3WithGlobal);
}

std::vector<LayerUnit> UnitsOf(const std::vector<LayerSpec>& layers, int64_t first_layer,
                               ComputeType compute, const LayerQuantizationOptions* quantization,
                               int64_t expert_bytes) {
  std::vector<LayerUnit> units;
  for (int64_t i = first_layer; i < std::ssize(layers); ++i) {
    units.push_back({i, 0, 0});
    const LayerSpec& layer = layers[static_cast<std::size_t>(i)];
    if (!layer.experts) continue;
    const int64_t count = layer.experts->count;
    const int64_t together = ExpertsTogether(layer, compute, quantization, expert_bytes);
    const int times = together < count && NeedsRangesOfAll(layer, quantization) ? 2 : 1;
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
