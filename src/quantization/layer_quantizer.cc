#include "quantization/layer_quantizer.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "device/compensation/factor.h"
#include "device/compensation/rounding.h"
#include "schemes/block_scales.h"

namespace narrow {
namespace {

constexpr double kDamping = 0.01;  // share of the mean diagonal of the second-order statistics

// What a group is quantized by.
struct GroupDecision {
  std::vector<float> weight_amax, weight_scales;  // of each linear, in the basis of the layer
  std::vector<double> column_energy;              // of the weights; empty where not needed
  float input_amax = 0.0f;
  float input_scale = 1.0f;
};

std::vector<LinearFacts> GroupFacts(const std::vector<LoadedLinear>& linears,
                                    const GroupDecision& decision) {
  std::vector<LinearFacts> facts;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    LinearFacts fact;
    fact.module = linears[i].spec.module;
    fact.role = linears[i].spec.role;
    fact.group = linears[i].spec.group;
    fact.weight_amax = decision.weight_amax[i];
    fact.weight_scale = decision.weight_scales[i];
    fact.input_amax = decision.input_amax;
    fact.input_scale = decision.input_scale;
    fact.elements = linears[i].spec.rows * linears[i].spec.columns;
    facts.push_back(std::move(fact));
  }
  return facts;
}

LinearScales ScalesOf(const std::vector<LinearFacts>& facts) {
  LinearScales scales = {.input = StaticFloat8Input(facts.front().input_scale)};
  for (const LinearFacts& fact : facts) scales.weights.push_back(fact.weight_scale);
  return scales;
}

// Rounds rows of one linear to codes and counts what saturated.
using RowsRounding = std::function<void(MatrixView<const float> rows, LinearFacts& facts,
                                        std::span<std::byte> codes)>;

RowsRounding NearestRounding(const QuantizationScheme& scheme) {
  return [&scheme](MatrixView<const float> rows, LinearFacts& facts, std::span<std::byte> codes) {
    std::vector<int64_t> saturated(static_cast<std::size_t>(rows.rows));
    ParallelFor(rows.rows, [&](int64_t row) {
      saturated[static_cast<std::size_t>(row)] =
          scheme.quantize(rows.RowSpan(row), facts.weight_scale,
                          codes.subspan(static_cast<std::size_t>(row * rows.columns),
                                        static_cast<std::size_t>(rows.columns)));
    });
    facts.saturated = std::accumulate(saturated.begin(), saturated.end(), facts.saturated);
  };
}

RowsRounding CompensatedRoundingWith(const CompensationFactor& factor) {
  return [&factor](MatrixView<const float> rows, LinearFacts& facts, std::span<std::byte> codes) {
    const CompensatedRounding done = RoundCompensated(factor, rows, facts.weight_scale, codes);
    facts.saturated += done.saturated;
    facts.output_error += done.error;
    facts.nearest_output_error += done.nearest_error;
  };
}

std::vector<LinearFacts> QuantizeGroup(LoadedLayer& layer, LinearGroup group,
                                       const GroupDecision& decision, const RowsRewriter& change,
                                       const QuantizationScheme& scheme, const RowsRounding& round,
                                       const CodeSink& sink) {
  const std::vector<LoadedLinear>& linears = layer.Linears(group);
  std::vector<LinearFacts> facts = GroupFacts(linears, decision);
  AlignedBuffer<std::byte> codes;
  layer.Quantize(group, ScalesOf(facts), [&](int64_t first_row, MatrixView<float> rows) {
    change(first_row, rows);
    if (codes.size() < rows.rows * rows.columns) {
      codes = AlignedBuffer<std::byte>(rows.rows * rows.columns);
    }
    const auto codes_of = [&](int64_t from, int64_t count) {
      return codes.span().subspan(static_cast<std::size_t>(from * rows.columns),
                                  static_cast<std::size_t>(count * rows.columns));
    };
    ForEachLinearAmong(
        linears, first_row, rows.rows, [&](std::size_t i, int64_t from, int64_t count) {
          round(rows.RowBlock(from, count), facts[i], codes_of(from, count));
          if (!sink) return;
          sink(linears[i].spec, first_row + from - linears[i].first_row, codes_of(from, count));
        });
    ParallelFor(rows.rows,
                [&](int64_t row) { scheme.decode(codes_of(row, 1), rows.RowSpan(row)); });
  });
  return facts;
}

// Mean squares of every column, but for a factor they share.
std::vector<float> DiagonalOf(HessianAccumulator& hessian) {
  std::vector<float> diagonal;
  for (int64_t column = 0; column < hessian.columns(); ++column) {
    double sum = 0.0;
    hessian.AddSquareTo(column, MatrixView<double>(&sum, 1, 1));
    diagonal.push_back(static_cast<float>(sum));
  }
  return diagonal;
}

class LayerQuantizer {
 public:
  LayerQuantizer(LoadedLayer& layer, LayerStatistics& statistics,
                 const LayerQuantizationOptions& options, const PartSink& parts)
      : layer_(layer),
        heads_(layer.spec().attention.heads),
        statistics_(statistics),
        options_(options),
        scheme_(*options.scheme),
        parts_(parts) {}

  LayerFacts Run(const CodeSink& sink, const StepSink& step, const FactorSink& factored) {
    std::optional<HessianAccumulator>& attended = Hessian(LinearGroup::kAttentionOutput);
    const bool attends = !layer_.spec().attention_module.empty();
    if (attends) {
      basis_ = ChooseBasis(layer_, statistics_.basis, attended ? &*attended : nullptr);
      statistics_.ranges = ChangeRanges(basis_, statistics_.ranges, heads_);
    }
    LayerFacts facts;
    for (const GroupSpec& spec : GroupsOf(layer_.spec())) {
      const LinearGroup group = spec.id;
      // In the order of the forward step: what comes after q/k/v is not quantized yet.
      const bool cached = options_.cache == CacheScheme::kFp8 && layer_.spec().caches();
      if (group == LinearGroup::kAttentionOutput && cached) {
        facts.cache = SetCache();
        if (step) step(std::nullopt);
      }
      if (!Quantized(group)) continue;
      QuantizeOne(group, sink, factored, facts.linears);
      KeepFunctionAfter(group);
      if (step) step(group);
    }
    return facts;
  }

 private:
  bool Quantized(LinearGroup group) const {
    const std::vector<LoadedLinear>& linears = layer_.Linears(group);
    return !linears.empty() && !options_.excluded.contains(linears.front().spec.module);
  }

  // Without them all weights of one size weigh alike.
  std::optional<HessianAccumulator>& Hessian(LinearGroup group) {
    return statistics_.hessians[static_cast<std::size_t>(group)];
  }

  // The rows of v change before the columns of o do, which meanwhile read inputs that are mixed
  // back: the layer is the same function after every step.
  void KeepFunctionAfter(LinearGroup group) {
    const bool between = group == LinearGroup::kQueryKeyValue;
    layer_.SetAttendedMixing(between ? MixingBack(basis_) : std::vector<AlignedBuffer<float>>());
  }

  void QuantizeOne(LinearGroup group, const CodeSink& sink, const FactorSink& factored,
                   std::vector<LinearFacts>& facts) {
    if (options_.schemes) return QuantizeAsData(group, factored, facts);
    const RowsRewriter change = [&](int64_t first_row, MatrixView<float> rows) {
      ChangeWeights(basis_, heads_, layer_.Linears(group), first_row, rows);
    };
    const GroupDecision decision = Decide(group, change);
    std::optional<CompensationFactor> factor;
    // Nothing was summed of an expert that too few tokens chose.
    if (options_.rounding == RoundingAlgorithm::kCompensated && Hessian(group)) {
      std::optional<HessianAccumulator> hessian = std::exchange(Hessian(group), std::nullopt);
      const bool mixed = group == LinearGroup::kAttentionOutput && basis_.Changes(group);
      if (mixed) ChangeMoments(basis_, heads_, *hessian);
      factor.emplace(*std::move(hessian), kDamping, decision.column_energy);
    }
    if (factored) factored(group);
    const RowsRounding round = factor ? CompensatedRoundingWith(*factor) : NearestRounding(scheme_);
    for (LinearFacts& fact : QuantizeGroup(layer_, group, decision, change, scheme_, round, sink)) {
      facts.push_back(std::move(fact));
    }
  }

  void QuantizeAsData(LinearGroup group, const FactorSink& factored,
                      std::vector<LinearFacts>& facts) {
    const std::vector<LoadedLinear>& linears = layer_.Linears(group);
    SchemeWork work;
    work.scheme = options_.schemes->of_modules.at(linears.front().spec.module);
    work.format = options_.schemes->format;
    work.exact_quotient = options_.schemes->exact_quotient;
    work.input_amax = LargestOf(statistics_.ranges.Input(group));
    std::vector<float> column_weights;
    std::optional<CompensationFactor> factor;
    if (options_.rounding == RoundingAlgorithm::kCompensated && Hessian(group)) {
      std::optional<HessianAccumulator> hessian = std::exchange(Hessian(group), std::nullopt);
      column_weights = DiagonalOf(*hessian);
      const GroupWeights measured =
          MeasureWeights(layer_, group, [](int64_t, MatrixView<float>) {});
      factor.emplace(*std::move(hessian), kDamping, measured.column_energy);
      work.factor = &*factor;
      work.column_weights = column_weights;
    }
    if (factored) factored(group);
    const std::vector<SchemeFacts> done = QuantizeByScheme(layer_, group, work, parts_);
    for (std::size_t i = 0; i < done.size(); ++i) {
      LinearFacts& fact = facts.emplace_back();
      fact.module = done[i].module;
      fact.role = linears[i].spec.role;
      fact.group = group;
      fact.weight_amax = done[i].weight_amax;
      fact.weight_scale = done[i].weight_scale;
      fact.input_amax = work.input_amax;
      fact.input_scale = done[i].input_scale;
      fact.elements = done[i].elements;
      fact.output_error = done[i].output_error;
      fact.nearest_output_error = done[i].nearest_output_error;
    }
  }

  GroupDecision Decide(LinearGroup group, const RowsRewriter& change) const {
    GroupDecision decision;
    decision.input_amax = LargestOf(statistics_.ranges.Input(group));
    decision.input_scale = ActivationScale(decision.input_amax);
    if (!basis_.Changes(group) && options_.rounding == RoundingAlgorithm::kNearest) {
      for (const LoadedLinear& linear : layer_.Linears(group)) {
        decision.weight_amax.push_back(linear.weight_amax);
      }
    } else {
      GroupWeights measured = MeasureWeights(layer_, group, change);
      decision.weight_amax = std::move(measured.amax);
      decision.column_energy = std::move(measured.column_energy);
    }
    decision.weight_scales =
        ChooseWeightScales(decision.weight_amax, scheme_, options_.weight_scales,
                           options_.head_basis == HeadBasis::kOriginal ? OwnScales::kOfRange
                                                                       : OwnScales::kPowersOfTwo);
    return decision;
  }

  // Powers of two are the grid that factors of K are chosen for. They lose no relative precision,
  // and leave room for values beyond those of the calibration texts.
  float ActivationScale(float amax) const {
    // Kept in the type of the weights, as the tools of these formats do.
    if (options_.schemes) {
      const LinearGroup first = layer_.spec().linears.front().group;
      return MakeFloatScale(layer_.Linears(first).front().stored, Code::kE4M3, {}, amax).stored;
    }
    return options_.head_basis == HeadBasis::kOriginal ? scheme_.scale(amax)
                                                       : scheme_.power_of_two_scale(amax);
  }

  CacheFacts SetCache() {
    CacheFacts cache;
    cache.attention_module = layer_.spec().attention_module;
    cache.key_amax = LargestOf(statistics_.ranges.keys);
    if (!statistics_.ranges.values.empty()) {
      cache.value_amax = LargestOf(statistics_.ranges.values);
    }
    cache.key_scale = std::max(ActivationScale(cache.key_amax), options_.min_cache_scale);
    cache.value_scale = std::max(ActivationScale(cache.value_amax), options_.min_cache_scale);
    if (layer_.spec().attention.As<LatentHeads>() != nullptr) {
      // One scale for all that is cached of a token. What runs has the one that is served with.
      cache.value_amax = cache.key_amax;
      cache.value_scale = cache.key_scale;
      cache.query_scale = 1.0f;
      layer_.SetCache(ServedLatentCache());
      layer_.SetAttention(options_.attention);
      return cache;
    }
    cache.query_amax = LargestOf(statistics_.ranges.queries);
    cache.query_scale = ActivationScale(cache.query_amax);
    layer_.SetCache({cache.key_scale, cache.value_scale, cache.query_scale});
    layer_.SetAttention(options_.attention);
    return cache;
  }

  LoadedLayer& layer_;
  const AttentionHeads& heads_;
  LayerStatistics& statistics_;
  const LayerQuantizationOptions& options_;
  const QuantizationScheme& scheme_;
  const PartSink& parts_;
  LayerBasis basis_;
};

// From the last group to the first: what later ones hold is there when an earlier one is rounded.
int64_t CompensationBytes(const std::vector<GroupSpec>& groups, int64_t block_columns,
                          ComputeType compute, int64_t threads, int64_t code_bytes) {
  int64_t left = 0, peak = 0;
  for (auto group = groups.rbegin(); group != groups.rend(); ++group) {
    left += HessianAccumulator::Bytes(group->columns, block_columns, compute);
    peak = std::max(peak, left + std::max(CompensationFactor::Bytes(group->columns, block_columns),
                                          RoundingBytes(group->columns, threads, code_bytes)));
  }
  return peak;
}

}  // namespace

LayerCalibration MakeCalibration(const LayerSpec& spec, const LayerQuantizationOptions& options) {
  constexpr auto kDivided = HessianAccumulator::Sums::kDivided;
  LayerHessians hessians;
  std::array<bool, kLinearGroupCount> quantized = {};
  for (const GroupSpec& group : GroupsOf(spec)) {
    if (options.excluded.contains(group.linears.front().module)) continue;
    const auto g = static_cast<std::size_t>(group.id);
    quantized[g] = true;
    if (options.rounding == RoundingAlgorithm::kCompensated) {
      hessians[g].emplace(group.columns, options.hessian_block_columns, kDivided);
    }
  }
  constexpr auto kQueryKeyValue = static_cast<std::size_t>(LinearGroup::kQueryKeyValue);
  constexpr auto kAttended = static_cast<std::size_t>(LinearGroup::kAttentionOutput);
  const AttentionHeads& heads = spec.attention.heads;
  BasisStatistics basis;
  if (options.head_basis == HeadBasis::kFitted && quantized[kQueryKeyValue]) {
    const BasisFreedom freedom = FreedomToFit(spec);
    if (freedom.keys && options.cache == CacheScheme::kFp8) basis.keys.emplace(heads);
    if (freedom.values && quantized[kAttended]) {
      basis.values.emplace(heads.key_value_width(), heads.head_size, kDivided);
      std::optional<HessianAccumulator>& attended = hessians[kAttended];
      if (!attended) attended.emplace(heads.query_width(), heads.head_size, kDivided);
    }
  }
  return LayerCalibration(spec, std::move(hessians), std::move(basis));
}

QuantizationBytes BytesToQuantize(const LayerSpec& spec, const LayerQuantizationOptions& options,
                                  int64_t batch_rows, ComputeType compute, int64_t threads) {
  const bool compensated = options.rounding == RoundingAlgorithm::kCompensated;
  const AttentionHeads& heads = spec.attention.heads;
  const BasisFreedom freedom = FreedomToFit(spec);
  const bool fitted = options.head_basis == HeadBasis::kFitted && (freedom.keys || freedom.values);
  QuantizationBytes bytes;
  std::vector<GroupSpec> observed = GroupsOf(spec);
  if (compensated) {
    bytes.second_order =
        CompensationBytes(observed, options.hessian_block_columns, compute, threads,
                          options.schemes ? static_cast<int64_t>(sizeof(float)) : 1);
  } else {
    std::erase_if(observed, [&](const GroupSpec& group) {
      return !fitted || group.id != LinearGroup::kAttentionOutput;
    });
  }
  bytes.batch = CollectedBytes(spec, observed, fitted, batch_rows, compute);
  if (fitted) {
    bytes.batch = std::max(bytes.batch, BasisChoiceBytes(heads));
    bytes.basis = BasisStatistics::Bytes(heads, compute);
    // Compensated rounding has moments of the input of o.
    if (!compensated) {
      bytes.basis += HessianAccumulator::Bytes(heads.query_width(), heads.head_size, compute);
    }
  }
  return bytes;
}

LayerFacts QuantizeLayer(LoadedLayer& layer, LayerStatistics statistics,
                         const LayerQuantizationOptions& options, const CodeSink& sink,
                         const StepSink& step, const FactorSink& factored, const PartSink& parts) {
  return LayerQuantizer(layer, statistics, options, parts).Run(sink, step, factored);
}

}  // namespace narrow
