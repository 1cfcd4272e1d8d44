// Whether two checkpoints are of one model.
#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "base/error.h"
#include "jobs/compare.h"

namespace narrow {
namespace {

template <typename T>
void CheckSame(const std::string& what, const T& reference, const T& judged) {
  if (reference == judged) return;
  Fail(ErrorCode::kUnsupported,
       "{} differ: {} in --reference, {} in --model_dir; --reference names the model that the "
       "checkpoint "
       "was made of",
       what, reference, judged);
}

using Shapes = std::map<WeightRole, std::pair<int64_t, int64_t>>;

Shapes ShapesOf(std::span<const LinearSpec> linears) {
  Shapes shapes;
  for (const LinearSpec& linear : linears) {
    shapes.emplace(linear.role, std::pair(linear.rows, linear.columns));
  }
  return shapes;
}

std::string Describe(const Shapes& shapes) {
  std::string text;
  for (const auto& [role, shape] : shapes) {
    text += fmt::format("{}{} x {}", text.empty() ? "" : ", ", shape.first, shape.second);
  }
  return text;
}

void CheckLayer(int64_t index, const LayerSpec& reference, const LayerSpec& judged) {
  const std::string layer = fmt::format("layer {}", index);
  const auto linears = [&](const std::string& what, std::span<const LinearSpec> a,
                           std::span<const LinearSpec> b) {
    CheckSame("the linears of " + what, Describe(ShapesOf(a)), Describe(ShapesOf(b)));
  };
  linears(layer, reference.linears, judged.linears);
  const AttentionHeads& a = reference.attention.heads;
  const AttentionHeads& b = judged.attention.heads;
  CheckSame("the query heads of " + layer, a.query_heads, b.query_heads);
  CheckSame("the key and value heads of " + layer, a.key_value_heads, b.key_value_heads);
  const auto count = [](const LayerSpec& spec) { return spec.experts ? spec.experts->count : 0; };
  CheckSame("the experts of " + layer, count(reference), count(judged));
  if (!reference.experts) return;
  CheckSame("the experts that a token of " + layer + " goes through", reference.experts->per_token,
            judged.experts->per_token);
  linears("the experts of " + layer, reference.experts->LinearsOf(0), judged.experts->LinearsOf(0));
}

}  // namespace

void CheckComparable(const ModelSource& reference, const ModelSource& judged) {
  CheckSame("the architectures", std::string(reference.family->architecture),
            std::string(judged.family->architecture));
  CheckSame("the vocabularies", reference.config.vocabulary, judged.config.vocabulary);
  CheckSame("the numbers of layers", reference.config.layers, judged.config.layers);
  CheckSame("the hidden sizes", reference.config.hidden, judged.config.hidden);
  for (int64_t i = 0; i < reference.config.layers; ++i) {
    CheckLayer(i, reference.family->layer(reference.config, i),
               judged.family->layer(judged.config, i));
  }
}

}  // namespace narrow
