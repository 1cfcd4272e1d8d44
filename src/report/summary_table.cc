#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "report/report.h"
#include "text/text_format.h"

namespace narrow {
namespace {

using Rows = std::vector<std::pair<std::string, std::string>>;

// Columns a terminal gives to UTF-8 text without wide characters: its code points.
std::size_t DisplayWidth(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

// "weights +0.0120, inputs +0.0160, KV cache +0.0051, over 4 windows".
void AddAttribution(const RunReport::Evaluation& evaluation, Rows* rows) {
  if (evaluation.part_costs.empty()) return;
  std::string text;
  for (const PartCost& cost : evaluation.part_costs) {
    text += fmt::format("{} {:+.4f}, ", PartName(PartId(cost.part)), cost.kl_added.mean);
  }
  const int64_t windows = evaluation.attributed_windows;
  rows->emplace_back("KL by part",
                     fmt::format("{}over {} window{}", text, windows, windows == 1 ? "" : "s"));
}

void AddKept(const RunReport& report, Rows* rows) {
  if (const std::string worst = DescribeWorstLayers(report); !worst.empty()) {
    rows->emplace_back("Worst layers", worst);
  }
  if (!report.kept) return;
  rows->emplace_back("Kept as they are", DescribeKept(report));
  if (const std::string limit = DescribeLimit(report); !limit.empty()) {
    rows->emplace_back("Limit", limit);
  }
}

std::string WithChange(const DivergenceSummary& summary) {
  return fmt::format("{:.4f} ({})", summary.perplexity,
                     FormatChange(summary.original_perplexity, summary.perplexity));
}

void AddPseudo(const RunReport::Evaluation& evaluation, Rows* rows) {
  const char* same = evaluation.bf16_attention ? "that with bf16 attention" : "the same";
  rows->emplace_back(
      "Perplexity, pseudo",
      evaluation.own_scales
          ? WithChange(*evaluation.own_scales) + ", comparable with Quark's tables"
          : fmt::format("{}: scales are shared; comparable with Quark's tables", same));
}

void AddEvaluation(const RunReport& report, Rows* rows) {
  const RunReport::Evaluation& evaluation = *report.evaluation;
  const DivergenceSummary& deployed = evaluation.deployed;
  rows->emplace_back("Perplexity, original", fmt::format("{:.4f}", deployed.original_perplexity));
  rows->emplace_back("Perplexity, deployed",
                     WithChange(deployed) + ", as vLLM runs it" +
                         (evaluation.bf16_attention ? " on most GPUs: FP8 attention" : ""));
  if (evaluation.bf16_attention) {
    rows->emplace_back(
        "Perplexity, bf16 attention",
        WithChange(*evaluation.bf16_attention) + ", elsewhere (CPUs, RDNA 3): cache dequantized");
  }
  if (!report.judged) AddPseudo(evaluation, rows);
  std::vector<std::string> beside;
  if (evaluation.bf16_attention) {
    beside.push_back(fmt::format("bf16 attention {:.4f}", evaluation.bf16_attention->kl.mean));
  }
  if (evaluation.own_scales) {
    beside.push_back(fmt::format("pseudo {:.4f}", evaluation.own_scales->kl.mean));
  }
  std::string kl = FormatEstimate(deployed.kl, 4) + " nats per token";
  if (!beside.empty()) kl += fmt::format(" ({})", fmt::join(beside, ", "));
  rows->emplace_back("KL from original", kl);
  AddAttribution(evaluation, rows);
  if (report.judged) {
    rows->emplace_back("Loss against original",
                       FormatEstimate(deployed.nll_increase, 4) + " nats per token");
    Estimate same = deployed.top1_agreement;
    same.mean *= 100;
    if (same.standard_error) *same.standard_error *= 100;
    rows->emplace_back("Same most probable token", FormatEstimate(same, 2) + " %");
  }
  rows->emplace_back("Verdict", DeployedVerdict(report));
  rows->emplace_back("Measured on", DescribeEvaluation(evaluation));
}

// Of what is quantized, or of what is compared.
void AddSubject(const RunReport& report, Rows* rows) {
  if (report.judged) {
    rows->emplace_back("Original", report.model);
    rows->emplace_back("Judged", report.judged->name);
    rows->emplace_back("Quantization",
                       fmt::format("{}, {}", report.judged->method,
                                   report.judged->cached ? "FP8 KV cache" : "KV cache as is"));
    return;
  }
  rows->emplace_back("Model", report.model);
  rows->emplace_back("Strategy", DescribeStrategy(report));
}

Rows SummaryRows(const RunReport& report) {
  Rows rows;
  AddSubject(report, &rows);
  if (report.calibration) {
    rows.emplace_back("Calibrated on", DescribeCalibration(*report.calibration));
  }
  if (report.evaluation) {
    AddEvaluation(report, &rows);
  } else {
    rows.emplace_back("Perplexity", "not measured");
  }
  AddKept(report, &rows);
  const RunReport::Seconds& seconds = report.seconds;
  if (seconds.measuring) rows.emplace_back("Measuring pass", FormatSeconds(*seconds.measuring));
  if (seconds.calibration) rows.emplace_back("Calibration", FormatSeconds(*seconds.calibration));
  if (seconds.quantization) rows.emplace_back("Quantization", FormatSeconds(*seconds.quantization));
  if (seconds.evaluation) rows.emplace_back("Evaluation", FormatSeconds(*seconds.evaluation));
  rows.emplace_back("Total time", FormatSeconds(seconds.total));
  rows.emplace_back("Peak memory", FormatBytes(report.peak_rss_bytes));
  return rows;
}

}  // namespace

std::string DescribeAdapters(const RunReport& report) {
  if (!report.strategy || report.strategy->head_basis != "fitted") return "";
  return "A LoRA adapter trained for the original model is silently wrong on this checkpoint: the "
         "rows of q_proj, k_proj and v_proj and the columns of o_proj are in another basis. To "
         "serve "
         "adapters, quantize with --head_basis none";
}

std::string DescribeStrategy(const RunReport& report) {
  if (!report.strategy) return "not quantized";
  return fmt::format(
      "{}, {}, {}",
      report.strategy->is_data
          ? report.strategy->scheme
          : fmt::format("FP8 E4M3 weights and inputs ({})", report.strategy->scheme),
      report.strategy->kv_cache == KvCacheQuantization::kFp8 ? "FP8 KV cache" : "KV cache as is",
      report.strategy->rounding == "gptq" ? "error-compensated rounding" : "rounding to nearest");
}

std::string FormatEstimate(const Estimate& estimate, int digits) {
  std::string text = fmt::format("{:.{}f}", estimate.mean, digits);
  if (estimate.standard_error) text += fmt::format(" ± {:.{}f}", *estimate.standard_error, digits);
  return text;
}

namespace {

std::string WithSource(const std::string& dataset, const std::string& source) {
  return source.empty() ? dataset : fmt::format("{} ({})", dataset, source);
}

}  // namespace

std::string DescribeCalibration(const RunReport::Calibration& calibration) {
  const std::string asked = calibration.samples < calibration.samples_asked
                                ? " of " + FormatCount(calibration.samples_asked)
                                : "";
  return fmt::format("{}, {}{} samples, {} tokens",
                     WithSource(calibration.dataset, calibration.source),
                     FormatCount(calibration.samples), asked, FormatCount(calibration.tokens));
}

std::string DescribeEvaluation(const RunReport::Evaluation& evaluation) {
  const std::string shortest = evaluation.shortest_window_tokens < evaluation.window_tokens
                                   ? FormatCount(evaluation.shortest_window_tokens) + " to "
                                   : "";
  return fmt::format(
      "{}, {} window{} of {}{} tokens{}", WithSource(evaluation.dataset, evaluation.source),
      FormatCount(evaluation.windows), evaluation.windows == 1 ? "" : "s", shortest,
      FormatCount(evaluation.window_tokens), evaluation.window_bos ? ", begin of text first" : "");
}

std::string RenderSummaryTable(const RunReport& report) {
  Rows rows = SummaryRows(report);
  std::size_t label_width = 0;
  std::size_t value_width = 0;
  for (auto& [label, value] : rows) {
    value = PrintableText(value);
    label_width = std::max(label_width, label.size());
    value_width = std::max(value_width, DisplayWidth(value));
  }
  const std::string rule = fmt::format("+-{:-<{}}-+-{:-<{}}-+\n", "", label_width, "", value_width);
  std::string table = rule;
  for (const auto& [label, value] : rows) {
    table += fmt::format("| {:<{}} | {}{:{}} |\n", label, label_width, value, "",
                         value_width - DisplayWidth(value));
  }
  return table + rule;
}

}  // namespace narrow
