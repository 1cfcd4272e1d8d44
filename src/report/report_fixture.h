// A report with every field set, for the tests of its renderings.
#pragma once

#include "report/report.h"

namespace narrow {

inline RunReport::Divergence FixtureDivergence(double perplexity, double kl) {
  RunReport::Divergence divergence;
  divergence.perplexity = perplexity;
  divergence.window_nll = {2.75, 3.25};
  divergence.nll_increase = {0.015, 0.0025};
  divergence.perplexity_change = {0.0175, 0.003};
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
  divergence.verdict = "loss rises by 0.0150 ± 0.0025 nats per token: perplexity +1.5 %";
  return divergence;
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
  evaluation.original_perplexity = 20.0;
  evaluation.original_window_nll = {2.5, 3.5};
  evaluation.deployed = FixtureDivergence(20.3, 0.05);
  evaluation.pseudo = FixtureDivergence(20.2, 0.04);
  evaluation.worst_tokens = {{1, 17, " cat", "the dog and the", 6.5, 4.0}};
  evaluation.attribution = RunReport::Attribution{
      8,
      {{"weights", {0.02, 0.001}, {0.02, 0.001}, {0.01, 0.002}, {0.01, 0.002}},
       {"inputs", {0.04, 0.001}, {0.02, 0.0005}, {0.012, 0.002}, {0.002, 0.001}},
       {"kv_cache", {0.05, 0.0005}, {0.01, 0.0004}, {0.015, 0.0025}, {0.003, 0.0015}}}};
  report.kept = RunReport::Kept{
      0.06,
      {{0, {"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"}, 0.25, 0.5, 2'097'152}},
      2'097'152,
      20'971'520,
      0.08,
      0.055};
  report.seconds = {61.5, 12.25, 3.0, 40.0, 20.0};
  report.peak_rss_bytes = 642'000'000;
  report.compute = {2, "bfloat16", "AVX3_SPR"};
  report.warnings = {"one"};
  report.weights = {
      {"a.weight", {0.875F, 0.001953125F}, 3, 4096, 0, RunReport::OutputError{1.5, 2.0}}};
  report.inputs = {{"a", {448.0F, 1.0F}, 0}};
  report.kv_cache = {{"model.layers.0.self_attn", {224.0F, 0.5F}, {112.0F, 0.25F}}};
  RunReport::LayerRecord& layer = report.layers.emplace_back();
  layer.elements = 4096;
  layer.saturated = 3;
  layer.output_error = RunReport::OutputError{1.5, 2.0};
  layer.seconds = 0.5;
  layer.loading_seconds = 0.125;
  layer.read = Traffic{8192, 0.0625};
  layer.written = Traffic{4096, 0.03125};
  layer.rss_bytes = 640'000'000;
  report.layers[0].error = RunReport::LayerError{
      0.0625, 1.0, {{"qkv", 0.03125, 0.5}, {"gate_up", 0.0, 0.0}, {"kv_cache", 0.03125, 0.5}}};
  return report;
}

}  // namespace narrow
