#include "plan/job_work.h"

#include <algorithm>

#include "base/checked_math.h"
#include "formats/quantized_weight.h"
#include "model/decoder_layer.h"
#include "model/experts.h"
#include "quantization/layer_probe.h"

namespace narrow {
namespace {

constexpr int64_t kScaleBytes = 4;
constexpr int64_t kProbedNetworks = 6;  // the original and one more for each part

int64_t BytesOf(const ModelSource& model, const std::string& name, int64_t elements) {
  if (model.checkpoint != nullptr) return model.checkpoint->Get(name).entry.bytes();
  return elements * ElementBytes(model.config.dtype);
}

int64_t LinearBytes(const ModelSource& model, const LinearSpec& linear) {
  const int64_t elements = linear.rows * linear.columns;
  if (linear.part) {
    const int64_t whole = linear.part->experts * linear.part->rows * linear.columns;
    return BytesOf(model, linear.part->tensor, whole) / whole * elements;
  }
  if (model.checkpoint == nullptr) return elements * ElementBytes(model.config.dtype);
  const auto* weight = FindWeight(*model.checkpoint, linear.module);
  return weight != nullptr ? weight->entry.bytes() : BytesOf(model, linear.weight(), elements);
}

// What the quantized linears of a group are written as.
int64_t CodeBytes(const ModelSource& model, const GroupSpec& group, const JobShape& shape) {
  if (!shape.schemes) return group.elements() + std::ssize(group.linears) * 2 * kScaleBytes;
  int64_t bytes = 0;
  for (const LinearSpec& linear : group.linears) {
    const auto scheme = shape.schemes->of_modules.find(linear.module);
    if (scheme == shape.schemes->of_modules.end()) continue;
    const SourceLinear source = {linear.module, linear.rows, linear.columns, model.config.dtype};
    for (const PartTensor& part : shape.schemes->format->tensors(source, scheme->second)) {
      bytes += part.tensor.bytes();
    }
  }
  return bytes;
}

void CountLayer(const ModelSource& model, const std::set<std::string>& excluded,
                const LayerSpec& layer_spec, JobWork& work) {
  const LayerSpec layer = WithExperts(layer_spec);
  int64_t unchanged = 0;
  for (const NamedShape& tensor : SmallTensors(layer)) {
    unchanged += BytesOf(model, tensor.name, *CheckedProduct(tensor.shape));
  }
  int64_t read = 0, codes = 0;
  const std::size_t of_all_tokens = GroupsOf(layer_spec).size();  // experts come after
  std::size_t index = 0;
  for (const GroupSpec& group : GroupsOf(layer)) {
    int64_t stored = 0;
    const bool expert = index++ >= of_all_tokens;
    const double share = expert ? static_cast<double>(layer.experts->per_token) /
                                      static_cast<double>(layer.experts->count)
                                : 1.0;
    for (const LinearSpec& linear : group.linears) {
      stored += LinearBytes(model, linear);
      if (linear.bias == Bias::kPresent) {
        unchanged +=
            linear.part ? 2 * linear.rows : BytesOf(model, linear.bias_name(), linear.rows);
      }
    }
    if (excluded.contains(group.linears.front().module)) {
      unchanged += stored;
      continue;
    }
    read += stored;
    if (expert) work.expert_bytes += stored;
    codes += CodeBytes(model, group, work.shape);
    const auto same = std::ranges::find_if(work.groups, [&](const QuantizedGroup& other) {
      return other.columns == group.columns && other.rows == group.rows && other.share == share;
    });
    if (same == work.groups.end()) {
      work.groups.push_back({group.columns, group.rows, 1, share});
    } else {
      ++same->layers;
    }
  }
  work.layer_bytes += unchanged + read;
  const int64_t cached = layer.caches() ? 3 * kScaleBytes : 0;  // scales of Q, K and V
  work.layer_output_bytes += unchanged + codes + cached;
}

double StreamFlops(const JobShape& shape, int64_t tokens, int64_t length) {
  if (tokens == 0) return 0;
  const double attention =
      static_cast<double>(AttentionFlops(shape.layer(), length)) / static_cast<double>(length);
  return static_cast<double>(tokens) * (static_cast<double>(LinearFlopsPerToken(shape.layer()) +
                                                            ExpertFlopsPerToken(shape.layer())) +
                                        attention);
}

}  // namespace

int64_t LayerWeights(const JobShape& shape) {
  int64_t weights = 0;
  for (int64_t i = 0; i < shape.config.layers; ++i) {
    weights += LayerWeightCount(WithExperts(shape.family->layer(shape.config, i)));
  }
  return weights;
}

int64_t JobWork::weights() const {
  const DecoderConfig& c = shape.config;
  return LayerWeights(shape) + c.vocabulary * c.hidden * (own_head() ? 2 : 1);
}

int64_t JobWork::output_bytes() const {
  if (!quantizes()) return 0;
  return embedding_bytes + (own_head() ? head_bytes : 0) + layer_output_bytes + other_bytes +
         kept_bytes;
}

int64_t JobWork::work_directory_bytes() const { return 2 * HiddenStateBytes(shape); }

JobWork CountWork(const ModelSource& model, const std::set<std::string>& excluded, JobShape shape) {
  JobWork work;
  work.shape = std::move(shape);
  const ModelSpec whole = model.family->model(model.config);
  const int64_t table = model.config.vocabulary * model.config.hidden;
  work.embedding_bytes = BytesOf(model, whole.embedding, table);
  work.head_bytes = BytesOf(model, whole.lm_head, table);
  for (const NamedShape& norm : FinalNormTensors(whole)) {
    work.other_bytes += BytesOf(model, norm.name, *CheckedProduct(norm.shape));
  }
  for (const OtherTensor& other : model.config.others) work.other_bytes += other.bytes;
  for (int64_t i = 0; i < model.config.layers; ++i) {
    CountLayer(model, excluded, model.family->layer(model.config, i), work);
  }
  return work;
}

void AddReading(const JobWork& other, JobWork& work) {
  work.embedding_bytes += other.embedding_bytes;
  work.head_bytes += other.head_bytes;
  work.layer_bytes += other.layer_bytes;
}

double OriginalLayerFlops(const JobWork& work) {
  const JobShape& s = work.shape;
  return StreamFlops(s, s.calibration_tokens, work.calibration_length) +
         StreamFlops(s, s.evaluation_tokens, work.window_tokens) +
         StreamFlops(s, kProbedNetworks * s.probe_tokens, kProbeTokens);
}

double QuantizedLayerFlops(const JobWork& work) {
  const JobShape& s = work.shape;
  return static_cast<double>(s.evaluation_variants) *
             StreamFlops(s, s.evaluation_tokens, work.window_tokens) +
         StreamFlops(s, AttributedTokens(s), work.window_tokens);
}

}  // namespace narrow
