#include "model/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "device/operations.h"
#include "model/decoder_layer.h"

namespace narrow {
namespace {

float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

void Softmax(std::span<float> scores) {
  const float largest = *std::ranges::max_element(scores);
  float sum = 0.0f;
  for (float& score : scores) sum += score = std::exp(score - largest);
  for (float& score : scores) score /= sum;
}

void Score(Routing::Scores kind, std::span<float> logits) {
  if (kind == Routing::Scores::kSoftmax) return Softmax(logits);
  for (float& logit : logits) logit = Sigmoid(logit);
}

// The `count` largest, the largest first; of equal ones the first.
std::vector<std::size_t> Largest(std::span<const float> values, std::size_t count) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(count);
  // A NaN has no place in an order; what it leads to is found in the hidden states.
  const auto key = [&](std::size_t i) {
    return std::isnan(values[i]) ? -std::numeric_limits<float>::infinity() : values[i];
  };
  std::partial_sort(order.begin(), end, order.end(), [&](std::size_t a, std::size_t b) {
    return key(a) != key(b) ? key(a) > key(b) : a < b;
  });
  order.resize(count);
  return order;
}

// Hides the experts of all groups but the chosen ones.
void HideGroups(const Routing& routing, std::span<float> choice) {
  const std::size_t size = choice.size() / static_cast<std::size_t>(routing.groups);
  std::vector<float> best;
  for (std::size_t first = 0; first < choice.size(); first += size) {
    const std::span<const float> group = choice.subspan(first, size);
    float sum = 0.0f;
    for (const std::size_t i : Largest(group, std::min<std::size_t>(2, size))) sum += group[i];
    best.push_back(sum);
  }
  const auto chosen = Largest(best, static_cast<std::size_t>(routing.chosen_groups));
  for (std::size_t g = 0; g < best.size(); ++g) {
    if (std::ranges::find(chosen, g) != chosen.end()) continue;
    std::ranges::fill(choice.subspan(g * size, size), -std::numeric_limits<float>::infinity());
  }
}

}  // namespace

void ChooseExperts(const Routing& routing, std::span<const float> logits,
                   std::span<const float> correction, std::span<int32_t> experts,
                   std::span<float> weights) {
  std::vector<float> scores(logits.begin(), logits.end());
  if (routing.among == Routing::Among::kAll) Score(routing.scores, scores);
  std::vector<float> choice = scores;
  for (std::size_t i = 0; i < correction.size(); ++i) choice[i] += correction[i];
  if (routing.groups > 1) HideGroups(routing, choice);
  const std::vector<std::size_t> chosen = Largest(choice, experts.size());
  std::vector<float> own;
  for (const std::size_t i : chosen) own.push_back(scores[i]);
  if (routing.among == Routing::Among::kChosen) Score(routing.scores, own);
  const float sum = routing.renormalized
                        ? std::accumulate(own.begin(), own.end(), 0.0f) + routing.sum_offset
                        : 1.0f;
  std::vector<std::pair<int32_t, float>> routes;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    routes.emplace_back(static_cast<int32_t>(chosen[i]), own[i] / sum * routing.scale);
  }
  std::ranges::sort(routes, {}, &std::pair<int32_t, float>::first);
  for (std::size_t i = 0; i < routes.size(); ++i) std::tie(experts[i], weights[i]) = routes[i];
}

void RouteRows(const DecoderLayer& layer, ConstOperands x, const RoutedRows& routed) {
  const ExpertsBlock& block = *layer.spec.experts;
  ToFloats(x, routed.inputs);
  const std::span<const float> weight = layer.Plain(block.router + ".weight");
  const auto optional = [&](bool present, const std::string& name) {
    return present ? layer.Plain(name) : std::span<const float>();
  };
  const std::span<const float> bias =
      optional(block.router_bias == Bias::kPresent, block.router + ".bias");
  const std::span<const float> correction = optional(!block.correction.empty(), block.correction);
  AlignedBuffer<float> logits(x.rows * block.count);
  const MatrixView<float> rows(logits.data(), x.rows, block.count);
  ProductTransposed(routed.inputs, {weight.data(), block.count, x.columns}, rows);
  const auto per_token = static_cast<std::size_t>(routed.per_token);
  for (int64_t row = 0; row < x.rows; ++row) {
    for (std::size_t i = 0; i < bias.size(); ++i) rows.Row(row)[i] += bias[i];
    ChooseExperts(block.routing, rows.RowSpan(row), correction,
                  {routed.experts + row * routed.per_token, per_token},
                  {routed.weights + row * routed.per_token, per_token});
  }
}

std::vector<float> TokenGates(std::span<const float> weight, ConstOperands x) {
  std::vector<float> row(weight.size()), gates;
  for (int64_t r = 0; r < x.rows; ++r) {
    ToFloats(x.RowBlock(r, 1), MatrixView<float>(row.data(), 1, x.columns));
    gates.push_back(Sigmoid(std::inner_product(row.begin(), row.end(), weight.begin(), 0.0f)));
  }
  return gates;
}

void ActivateMlp(const MlpBlock& mlp, ConstOperands gate_up, Operands activated) {
  const bool gated = mlp.gate == MlpBlock::Gate::kPresent;
  const ConstOperands gate = gate_up.ColumnBlock(0, mlp.width);
  const ConstOperands up = gated ? gate_up.ColumnBlock(mlp.width, mlp.width) : ConstOperands();
  if (!mlp.clamped) return Activate(mlp.activation, gate, up, activated);
  const auto width = static_cast<std::size_t>(mlp.width);
  std::vector<float> gates(width), ups(width);
  const float limit = mlp.clamped->limit;
  for (int64_t r = 0; r < gate.rows; ++r) {
    ToFloats(gate.RowBlock(r, 1), MatrixView<float>(gates.data(), 1, mlp.width));
    ToFloats(up.RowBlock(r, 1), MatrixView<float>(ups.data(), 1, mlp.width));
    for (std::size_t i = 0; i < width; ++i) {
      const float g = std::min(gates[i], limit);
      gates[i] = g * Sigmoid(mlp.clamped->alpha * g) * (std::clamp(ups[i], -limit, limit) + 1.0f);
    }
    FromFloats(MatrixView<const float>(gates.data(), 1, mlp.width), activated.RowBlock(r, 1));
  }
}

}  // namespace narrow
