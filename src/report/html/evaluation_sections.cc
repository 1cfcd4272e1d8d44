#include <fmt/format.h>

#include "report/html/chart.h"
#include "report/html/markup.h"
#include "report/html/sections.h"
#include "text/text_format.h"

namespace narrow {
namespace {

using Divergence = DivergenceSummary;
using Rows = std::vector<std::vector<std::string>>;

std::string Percent(const Estimate& estimate) {
  std::string text = fmt::format("{:.2f} %", 100 * estimate.mean);
  if (estimate.standard_error) text += fmt::format(" ± {:.2f}", 100 * *estimate.standard_error);
  return text;
}

Rows EvaluationRows(const RunReport::Evaluation& evaluation) {
  Rows rows;
  const auto row = [&](const char* label, const std::string& of_original, const auto& format) {
    rows.push_back({label, of_original, EscapeHtml(format(evaluation.deployed))});
    if (evaluation.bf16_attention) {
      rows.back().push_back(EscapeHtml(format(*evaluation.bf16_attention)));
    }
    rows.back().push_back(EscapeHtml(format(evaluation.pseudo())));
  };
  row("Perplexity", fmt::format("{:.4f}", evaluation.deployed.original_perplexity),
      [](const Divergence& of) {
        return fmt::format("{:.4f} ({})", of.perplexity,
                           FormatChange(of.original_perplexity, of.perplexity));
      });
  row("Perplexity, change", "", [](const Divergence& of) { return Percent(PerplexityChange(of)); });
  row("Loss increase, nats per token", "",
      [](const Divergence& of) { return FormatEstimate(of.nll_increase, 4); });
  row("KL divergence, mean, nats", "",
      [](const Divergence& of) { return FormatEstimate(of.kl, 4); });
  row("KL, median", "", [](const Divergence& of) { return FormatFigure(of.kl_median); });
  row("KL, 99 %", "", [](const Divergence& of) { return FormatFigure(of.kl_99); });
  row("KL, 99.9 %", "", [](const Divergence& of) { return FormatFigure(of.kl_999); });
  row("KL, largest", "", [](const Divergence& of) { return FormatFigure(of.kl_maximum); });
  row("Same most probable token", "",
      [](const Divergence& of) { return Percent(of.top1_agreement); });
  row("Original favourite in the top 5", "",
      [](const Divergence& of) { return Percent(of.top1_in_top5); });
  row("Overlap of the top 5", "", [](const Divergence& of) { return Percent(of.top5_overlap); });
  row("Probability of the right token, change", "",
      [](const Divergence& of) { return Percent(of.probability_change); });
  row("The same, root mean square", "", [](const Divergence& of) {
    return fmt::format("{:.2f} %", 100 * of.probability_change_rms);
  });
  return rows;
}

std::string WindowChart(const RunReport::Evaluation& evaluation) {
  const std::vector<double>& original = evaluation.deployed.original_window_nll;
  if (evaluation.deployed.window_nll.size() != original.size()) return "";
  Chart chart;
  chart.title = "Loss increase of the deployed model by window, nats per token";
  chart.place = "window";
  chart.mark = ChartMark::kBars;
  chart.series.push_back({"increase", {}});
  for (std::size_t i = 0; i < original.size(); ++i) {
    chart.series[0].values.emplace_back(evaluation.deployed.window_nll[i] - original[i]);
  }
  return RenderChart(chart);
}

// Nothing without an attribution.
std::string AttributionTable(const RunReport::Evaluation& evaluation) {
  if (evaluation.part_costs.empty()) return "";
  const double whole = evaluation.part_costs.back().kl.mean;
  Rows rows;
  for (const PartCost& cost : evaluation.part_costs) {
    rows.push_back({(rows.empty() ? "" : "+ ") + PartName(PartId(cost.part)),
                    FormatEstimate(cost.kl, 4), FormatEstimate(cost.kl_added, 4),
                    whole > 0 ? fmt::format("{:.0f} %", 100 * cost.kl_added.mean / whole) : "",
                    FormatEstimate(cost.nll_increase, 4), FormatEstimate(cost.nll_added, 4)});
  }
  return Element("h3", "Which part costs how much") +
         HtmlTable({"Quantized", "KL, nats", "added", "share", "Loss increase, nats", "added"},
                   rows, 1) +
         fmt::format(
             "<p class=\"note\">Deployed weights alone, then with their inputs quantized, "
             "then with the KV cache{}, over {} of the windows; the last line is the deployed "
             "network.</p>\n",
             evaluation.part_costs.back().part == QuantizedPart::kAttention
                 ? ", then with queries and probabilities in FP8, too"
                 : "",
             evaluation.attributed_windows);
}

// Line ends are part of what the token is, and would break the line here.
std::string Quote(std::string_view text) {
  std::string visible;
  for (const char c : text) {
    if (c == '\n') {
      visible += "↵";
    } else if (c == '\t') {
      visible += "⇥";
    } else {
      visible += c;
    }
  }
  return EscapeHtml(visible);
}

std::string WorstTokens(const RunReport::Evaluation& evaluation) {
  if (evaluation.worst_tokens.empty()) return "";
  Rows rows;
  for (const RunReport::WorstToken& token : evaluation.worst_tokens) {
    rows.push_back(
        {fmt::format("<span class=\"quote\"><bdi>{}</bdi><mark><bdi>{}</bdi></mark></span>",
                     Quote(token.context), Quote(token.token)),
         fmt::format("+{:.2f}", token.outcome.nll_increase),
         fmt::format("{:.3f}", token.outcome.kl), fmt::format("{}", token.outcome.window),
         fmt::format("{}", token.position())});
  }
  return Section(
      "Tokens hurt most",
      "The tokens whose loss rises most in the deployed model, with the text before them.",
      HtmlTable({"Text and token", "Loss, nats", "KL, nats", "Window", "Position"}, rows, 1));
}

}  // namespace

std::string EvaluationSections(const RunReport& report) {
  if (!report.evaluation) {
    return Section("Evaluation", "No evaluation was made in this run.", "");
  }
  const RunReport::Evaluation& evaluation = *report.evaluation;
  std::vector<std::string> titles = {"", "Original", "Deployed<small>as vLLM runs it</small>"};
  if (evaluation.bf16_attention) {
    titles.emplace_back("bf16 attention<small>the cache dequantized</small>");
  }
  titles.emplace_back("Pseudo<small>comparable with Quark's tables</small>");
  std::string html = HtmlTable(titles, EvaluationRows(evaluation), 1);
  html +=
      "<p class=\"note\">After ± stands one standard error of the paired difference, with the "
      "windows as clusters. ";
  if (const std::string attention = DescribeAttention(evaluation); !attention.empty()) {
    html += EscapeHtml(attention) + ". ";
  }
  html += !evaluation.own_scales
              ? fmt::format(
                    "Pseudo is the same network as {} here: fused matrices share their "
                    "scale, so merging at load changes nothing.",
                    evaluation.bf16_attention ? "bf16 attention" : "deployed")
              : "Pseudo leaves every matrix at its own scale; vLLM merges the scales of fused "
                "matrices at load.";
  html += "</p>\n";
  html += AttributionTable(evaluation);
  if (evaluation.notice) html += Element("p", *evaluation.notice);
  return Section("Evaluation",
                 fmt::format("Measured on {}: {} tokens.", DescribeEvaluation(evaluation),
                             FormatCount(evaluation.tokens)),
                 html + WindowChart(evaluation)) +
         WorstTokens(evaluation);
}

}  // namespace narrow
