// A report with every field set, for the tests of its renderings.
#pragma once

#include "export/report.h"

namespace narrow {

inline RunReport FullReport() {
  RunReport report;
  report.command_line = {"narrow", "quantize", "--model_dir", "models/Tiny Llama"};
  report.version = "0.1.0";
  report.model = "Tiny Llama";
  report.strategy = RunReport::Strategy{"w_fp8_a_fp8", "fp8",        KvCacheQuantization::kFp8,
                                        0.0,           std::nullopt, {"lm_head"}};
  report.calibration = RunReport::Calibration{"builtin", 128, 46026, "Small built-in text."};
  report.evaluation = RunReport::Evaluation{
      "wikitext2", 8, 2048, 16384, {20.0, 20.3}, {{2.5, 3.5}, {2.75, 3.25}}, std::nullopt};
  report.seconds = {61.5, 12.25, 3.0, 40.0};
  report.peak_rss_bytes = 642'000'000;
  report.compute = {2, "bfloat16", "AVX3_SPR"};
  report.warnings = {"one"};
  report.weights = {{"a.weight", {0.875F, 0.001953125F}, 3, 4096}};
  report.inputs = {{"a", {448.0F, 1.0F}}};
  report.kv_cache = {{"model.layers.0.self_attn", {224.0F, 0.5F}, {112.0F, 0.25F}}};
  return report;
}

}  // namespace narrow
