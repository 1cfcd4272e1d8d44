// A report with every field set, for the tests of its renderings.
#pragma once

#include "report/report.h"

namespace narrow {

inline DivergenceSummary FixtureDivergence(double perplexity, double kl) {
  DivergenceSummary divergence;
  divergence.original_perplexity = 20.0;
  divergence.original_window_nll = {2.5, 3.5};
  divergence.perplexity = perplexity;
  divergence.window_nll = {2.75, 3.25};
  divergence.window_kl = {0.03125, 0.0625};
  divergence.nll_increase = {0.015, 0.001};
  divergence.kl = {kl, 0.0005};
  divergence.kl_median = 0.01;
  divergence.kl_99 = 0.5;
  divergence.kl_999 = 1.5;
  divergence.kl_maximum = 4.0;
  divergence.top1_agreement = {0.875, 0.01};
  divergence.top1_in_top5 = {0.995, 0.001};
  divergence.top5_overlap = {0.75, 0.02};
  divergence.probability_change = {-0.0025, 0.0005};
  divergence.probability_change_rms = 0.03125;
  return divergence;
}

inline PartCost FixtureCost(QuantizedPart part, Estimate kl, Estimate kl_added, Estimate nll,
                            Estimate nll_added) {
  PartCost cost;
  cost.part = part;
  cost.kl = kl;
  cost.kl_added = kl_added;
  cost.nll_increase = nll;
  cost.nll_added = nll_added;
  return cost;
}

// Layer 0, with one linear.
inline RunReport::LayerRecord FixtureLayer() {
  RunReport::LayerRecord layer;
  LinearFacts& linear = layer.facts.linears.emplace_back();
  linear.module = std::string("a");
  linear.weight_amax = 0.875F;
  linear.weight_scale = 0.001953125F;
  linear.input_amax = 448.0F;
  linear.input_scale = 1.0F;
  linear.elements = 4096;
  linear.saturated = 3;
  linear.output_error = 1.5;
  linear.nearest_output_error = 2.0;
  layer.facts.cache =
      CacheFacts{"model.layers.0.self_attn", 224.0F, 0.5F, 112.0F, 0.25F, 28.0F, 0.0625F};
  layer.facts.errors = LayerErrors{{0.03125, 0.0, 0.0, 0.0}, 0.03125, 0.0625};
  layer.times = LayerTimes{0.5, 0.125, {8192, 0.0625}, {4096, 0.03125}};
  layer.times->whole = {0.125, 0.25, 0.0625, 0.03125, 4096};
  layer.times->experts = SecondsOf{0.0, 0.125, 0.0, 0.0, 1024};
  layer.rss_bytes = 640'000'000;
  return layer;
}

inline RunReport FullReport() {
  RunReport report;
  report.command_line = {"narrow", "quantize", "--model_dir", "models/Tiny Llama"};
  report.version = "0.1.0";
  report.model = "Tiny Llama";
  report.strategy = RunReport::Strategy{
      "w_fp8_a_fp8", "fp8", KvCacheQuantization::kFp8, 0.0, std::nullopt, {"lm_head"}, "gptq", 0};
  report.calibration =
      RunReport::Calibration{"builtin", 128, 46026, "Small built-in text.", 128, 2};
  RunReport::Evaluation& evaluation = report.evaluation.emplace();
  evaluation.dataset = "wikitext2";
  evaluation.windows = 8;
  evaluation.window_tokens = evaluation.shortest_window_tokens = 2048;
  evaluation.tokens = 16384;
  evaluation.deployed = FixtureDivergence(20.3, 0.05);
  evaluation.attention = AttentionFigures::kBoth;
  evaluation.bf16_attention = FixtureDivergence(20.25, 0.045);
  evaluation.own_scales = FixtureDivergence(20.2, 0.04);
  evaluation.worst_tokens = {{{1, 16, 6.5, 4.0}, " cat", "the dog and the"}};
  evaluation.attributed_windows = 8;
  evaluation.part_costs = {FixtureCost(QuantizedPart::kWeights, {0.02, 0.001}, {0.02, 0.001},
                                       {0.01, 0.002}, {0.01, 0.002}),
                           FixtureCost(QuantizedPart::kInputs, {0.04, 0.001}, {0.02, 0.0005},
                                       {0.012, 0.002}, {0.002, 0.001}),
                           FixtureCost(QuantizedPart::kCache, {0.05, 0.0005}, {0.01, 0.0004},
                                       {0.015, 0.0025}, {0.003, 0.0015})};
  report.kept = RunReport::Kept{0.06,
                                {{{0,
                                   LinearGroup::kGateUp,
                                   {"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"},
                                   2'097'152,
                                   0.25,
                                   0.5}},
                                 0.08,
                                 0.055,
                                 20.0},
                                20'971'520};
  report.seconds = {61.5, 12.25, 3.0, 40.0, 20.0};
  report.peak_rss_bytes = 642'000'000;
  report.compute = {2, "bfloat16", "AVX3_SPR"};
  report.warnings = {"one"};
  report.layers = {FixtureLayer()};
  return report;
}

}  // namespace narrow
