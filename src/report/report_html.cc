#include "report/report_html.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/html/chart.h"
#include "report/html/markup.h"
#include "report/html/sections.h"
#include "text/text_format.h"

namespace narrow {
namespace {

std::string Tile(std::string_view label, std::string_view figure, std::string_view remark) {
  return fmt::format(
      "<div class=\"tile\"><span class=\"soft\">{}</span><b>{}</b><span class=\"soft\">{}</span>"
      "</div>\n",
      EscapeHtml(label), EscapeHtml(figure), EscapeHtml(remark));
}

std::string Tiles(const RunReport& report) {
  std::string html = "<div class=\"tiles\">\n";
  if (report.evaluation) {
    const DivergenceSummary& deployed = report.evaluation->deployed;
    html += Tile("Perplexity as deployed", fmt::format("{:.3f}", deployed.perplexity),
                 fmt::format("{} from {:.3f}",
                             FormatChange(deployed.original_perplexity, deployed.perplexity),
                             deployed.original_perplexity));
    if (const auto& other = report.evaluation->bf16_attention) {
      html += Tile(
          "With bf16 attention", fmt::format("{:.3f}", other->perplexity),
          fmt::format("{}, KL {:.4f}", FormatChange(other->original_perplexity, other->perplexity),
                      other->kl.mean));
    }
    const Estimate& kl = deployed.kl;
    html += Tile("KL from the original", fmt::format("{:.4f}", kl.mean),
                 kl.standard_error ? fmt::format("± {:.4f} nats per token", *kl.standard_error)
                                   : "nats per token");
  }
  html += Tile("Time", FormatSeconds(report.seconds.total),
               fmt::format("{} thread{}, {}", report.compute.threads,
                           report.compute.threads == 1 ? "" : "s", report.compute.dtype));
  html += Tile("Peak memory", FormatBytes(report.peak_rss_bytes), "");
  return html + "</div>\n";
}

std::string Heading(const RunReport& report) {
  std::string html = Element("h1", report.model);
  html += fmt::format("<p class=\"soft\">{}; made by narrow {}</p>\n",
                      EscapeHtml(DescribeStrategy(report)), EscapeHtml(report.version));
  html += Tiles(report);
  if (report.evaluation) {
    html += fmt::format("<p class=\"verdict\">Verdict, as deployed: {}.</p>\n",
                        EscapeHtml(DeployedVerdict(report)));
  }
  if (const std::string limit = DescribeLimit(report); !limit.empty()) {
    html += fmt::format("<p class=\"verdict\">{}.</p>\n", EscapeHtml(limit));
  }
  if (const std::string adapters = DescribeAdapters(report); !adapters.empty()) {
    html += fmt::format("<p class=\"soft\">{}.</p>\n", EscapeHtml(adapters));
  }
  if (report.warnings.empty()) return html;
  html += "<section class=\"warnings\">\n<h2>Warnings</h2>\n<ul>\n";
  for (const std::string& warning : report.warnings) html += Element("li", warning);
  return html + "</ul>\n</section>\n";
}

std::string Calibration(const RunReport& report) {
  if (!report.calibration) return "";
  const RunReport::Calibration& calibration = *report.calibration;
  std::string html = HtmlTable(
      {"Data set", "Samples", "Tokens", "Tokens per sample"},
      {{EscapeHtml(calibration.dataset),
        FormatCount(calibration.samples) + (calibration.samples < calibration.samples_asked
                                                ? " of " + FormatCount(calibration.samples_asked)
                                                : ""),
        FormatCount(calibration.tokens),
        calibration.samples > 0
            ? fmt::format("{:.0f}", static_cast<double>(calibration.tokens) /
                                        static_cast<double>(calibration.samples))
            : ""}},
      1);
  if (calibration.notice) html += Element("p", *calibration.notice);
  return Section("Calibration", "", html);
}

std::string PhaseTable(const RunReport::Seconds& seconds) {
  std::vector<std::vector<std::string>> rows;
  double rest = seconds.total;
  const auto row = [&](const char* label, double value) {
    const double share = seconds.total > 0 ? std::clamp(value / seconds.total, 0.0, 1.0) : 0.0;
    rows.push_back({label,
                    fmt::format("<span class=\"bar\" style=\"width:{:.1f}%\"></span>", 100 * share),
                    FormatSeconds(value), fmt::format("{:.0f} %", 100 * share)});
  };
  const auto phase = [&](const char* label, const std::optional<double>& value) {
    if (!value) return;
    row(label, *value);
    rest -= *value;
  };
  phase("Measuring what to keep", seconds.measuring);
  phase("Calibration", seconds.calibration);
  phase("Quantization and writing", seconds.quantization);
  phase("Evaluation", seconds.evaluation);
  row("Everything else", std::max(0.0, rest));
  rows.push_back({"Total", "", FormatSeconds(seconds.total), ""});
  return HtmlTable({"Phase", "<span class=\"track\"></span>", "Time", "Share"}, rows, 2);
}

std::string TimeAndMemory(const RunReport& report) {
  Chart seconds;
  seconds.title = "Seconds by layer, all phases";
  seconds.mark = ChartMark::kBars;
  seconds.series.push_back({"seconds", {}});
  Chart memory;
  memory.title = "Resident memory after each layer, MiB";
  memory.series.push_back({"MiB", {}});
  for (const RunReport::LayerRecord& layer : report.layers) {
    seconds.series[0].values.emplace_back();
    if (layer.times) seconds.series[0].values.back() = layer.times->seconds;
    memory.series[0].values.emplace_back();
    // 0 where the kernel did not say.
    if (layer.rss_bytes.value_or(0) > 0) {
      memory.series[0].values.back() = static_cast<double>(*layer.rss_bytes) / (1024.0 * 1024.0);
    }
  }
  return Section("Time and memory",
                 fmt::format("Peak memory {}; computed in {} on {} ({} threads).",
                             FormatBytes(report.peak_rss_bytes), report.compute.dtype,
                             report.compute.cpu_isa, report.compute.threads),
                 PhaseTable(report.seconds) + RenderChart(seconds) + RenderChart(memory));
}

std::string Command(const RunReport& report) {
  return Section("Command", "",
                 fmt::format("<pre>{}</pre>\n", EscapeHtml(ShellCommand(report.command_line))));
}

}  // namespace

std::string RenderReportHtml(const RunReport& report) {
  return HtmlPage(report.model + ": report", Heading(report) + EvaluationSections(report) +
                                                 ErrorSections(report) + LayerSections(report) +
                                                 Calibration(report) + TimeAndMemory(report) +
                                                 TensorSection(report) + Command(report));
}

}  // namespace narrow
