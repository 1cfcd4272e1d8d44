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
                               int64_t expert_bytes, bool judged) {
  std::vector<UnitOf> checkpoints = {UnitOf::kSource};
  if (judged) checkpoints.push_back(UnitOf::kJudged);
  std::vector<LayerUnit> units;
  for (int64_t i = first_layer; i < std::ssize(layers); ++i) {
    for (const UnitOf checkpoint : checkpoints) units.push_back({checkpoint, i, 0, 0});
    const LayerSpec& layer = layers[static_cast<std::size_t>(i)];
    if (!layer.experts) continue;
    const int64_t count = layer.experts->count;
    const int64_t together = ExpertsTogether(layer, compute, quantization, expert_bytes);
    std::vector<UnitOf> times = checkpoints;
    if (together < count && NeedsRangesOfAll(layer, quantization)) times.push_back(UnitOf::kSource);
    for (const UnitOf checkpoint : times) {
      for (int64_t first = 0; first < count; first += together) {
        units.push_back({checkpoint, i, first, std::min(together, count - first)});
      }
    }
  }
  return units;
}

UnitReader::UnitReader(std::vector<UnitSource> sources, std::vector<LayerUnit> units,
                       ComputeType compute, int64_t read_ahead_bytes)
    : sources_(std::move(sources)),
      units_(std::move(units)),
      compute_(compute),
      read_ahead_bytes_(read_ahead_bytes) {
  for (const UnitSource& source : sources_) schemes_.emplace_back(*source.checkpoint);
  ReadAhead();
}

std::vector<StoredLayer> UnitReader::Open(const LayerUnit& unit) const {
  const auto index = static_cast<std::size_t>(unit.checkpoint);
  const UnitSource& source = sources_[index];
  const LayerSpec& layer = (*source.layers)[static_cast<std::size_t>(unit.layer)];
  int64_t left = read_ahead_bytes_;
  const auto open = [&](LayerSpec spec) {
    return OpenLayer(*source.checkpoint, schemes_[index], std::move(spec), left,
                     source.dequantized);
  };
  std::vector<StoredLayer> opened;
  if (unit.experts == 0) {
    opened.push_back(open(layer));
    return opened;
  }
  for (int64_t e = unit.first_expert; e < unit.first_expert + unit.experts; ++e) {
    opened.push_back(open(ExpertLayer(layer, e)));
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
