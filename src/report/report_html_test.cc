#include "report/report_html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "report/html/axis.h"
#include "report/html/chart.h"
#include "report/html/markup.h"
#include "report/report_fixture.h"
#include "text/utf8.h"

namespace narrow {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Ge;
using testing::HasSubstr;
using testing::Le;
using testing::Not;

bool IsVoid(const std::string& name) { return name == "meta" || name == "!doctype"; }

// What is wrong with the tags of a page: one that is not closed in its turn, an attribute without
// quotes, a stray '<' or '>'. Nothing when it is well formed.
std::optional<std::string> FirstFault(const std::string& page) {
  std::vector<std::string> open;
  std::size_t at = 0;
  while (at < page.size()) {
    if (!open.empty() && open.back() == "style") at = page.find("</style>", at);
    if (at == std::string::npos) return "style is not closed";
    if (page[at] == '>') return "stray > before " + page.substr(at, 40);
    if (page[at] != '<') {
      ++at;
      continue;
    }
    std::size_t end = at + 1;
    const bool closes = page[end] == '/';
    std::string name;
    for (end += closes; end < page.size() && (std::isalnum(page[end]) || page[end] == '!'); ++end) {
      name += static_cast<char>(std::tolower(page[end]));
    }
    for (bool quoted = false; end < page.size() && (quoted || page[end] != '>'); ++end) {
      if (page[end] == '<') return "a tag in the tag " + page.substr(at, 40);
      if (page[end] == '"') quoted = !quoted;
      if (!quoted && page[end] == '=' && page[end + 1] != '"') return "no quotes in " + name;
    }
    if (end >= page.size() || name.empty()) return "no end of " + page.substr(at, 40);
    if (closes) {
      if (open.empty() || open.back() != name) return "unexpected </" + name + ">";
      open.pop_back();
    } else if (page[end - 1] != '/' && !IsVoid(name)) {
      open.push_back(name);
    }
    at = end + 1;
  }
  if (open.empty()) return std::nullopt;
  return "<" + open.back() + "> is not closed";
}

std::string Repeated(const std::string& part, const std::string& page) {
  const std::size_t first = page.find(part);
  return first == std::string::npos ? "" : page.substr(first);
}

TEST(ReportHtml, FaultsAreFound) {  // the judge of the tests below can say no
  EXPECT_EQ(FirstFault("<p>a<br/></p>"), std::nullopt);
  for (const char* bad : {"<p>", "</p>", "<p><b></p></b>", "<p a=b></p>", "a > b", "<p <b></b></p>",
                          "<p a=\"x>y</p>", "< p></p>"}) {
    EXPECT_NE(FirstFault(bad), std::nullopt) << bad;
  }
}

TEST(ReportHtml, IsWellFormedAndCompleteInItself) {
  const std::string page = RenderReportHtml(FullReport());
  EXPECT_EQ(FirstFault(page), std::nullopt);
  EXPECT_EQ(FirstFault(RenderReportHtml(RunReport{})), std::nullopt);
  for (const char* foreign : {"<script", "<link", "<img", "http:", "https:", "url(", "@import"}) {
    EXPECT_THAT(page, Not(HasSubstr(foreign)));
  }
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(page, HasSubstr("name=\"viewport\" content=\"width=device-width"));
}

TEST(ReportHtml, ShowsTheFigures) {
  const std::string page = RenderReportHtml(FullReport());
  for (const char* figure :
       {"<h1>Tiny Llama</h1>",
        "<td>20.0000</td><td>20.3000 (+1.50 %)</td><td>20.2500 (+1.25 %)</td><td>20.2000 (+1.00 %)",
        "<td>0.0500 ± 0.0005</td><td>0.0450 ± 0.0005</td><td>0.0400 ± 0.0005</td>",
        "bf16 attention is with attention over the dequantized cache",
        "Verdict, as deployed: loss rises by 0.0150 ± 0.0010",
        "Perplexity, change</td><td></td><td>1.51 % ± 0.10</td>",
        "<td>87.50 % ± 1.00</td>",
        "<bdi>the dog and the</bdi><mark><bdi> cat</bdi></mark>",
        "<li>one</li>",
        "leaves 75 % of the squared error",
        "layer 0 · compensated: 1.5",
        "3 of 4,096 quantized",
        "layer 0 · K: 0.5 · V: 0.25",
        "Small built-in text.",
        "1 min 02 s",
        "612.3 MiB",
        "layer 0 · MiB: 610.4",
        "<td class=\"text\">a</td><td>0.875</td><td>0.001953</td>",
        "narrow quantize --model_dir",
        "+ KV cache</td><td>0.0500 ± 0.0005</td><td>0.0100 ± 0.0004</td><td>20 %</td>",
        "layer 0, q/k/v</td><td>50.00 %</td><td>0.03125</td>",
        "KL 0.0500 is within --max_kl 0.0600; 0.0800 with all quantized",
        "model.layers.0.mlp.gate_proj, up_proj</td><td>50.00 %</td><td>2.00 MiB</td>"}) {
    EXPECT_THAT(page, HasSubstr(figure));
  }
}

TEST(ReportHtml, LeavesOutWhatWasNotMeasured) {
  RunReport report = FullReport();
  report.evaluation.reset();
  report.calibration.reset();
  report.warnings.clear();
  LayerFacts& facts = report.layers[0].facts;
  facts.cache.reset();
  facts.errors.reset();
  facts.linears[0].output_error = facts.linears[0].nearest_output_error = 0.0;
  report.kept.reset();
  report.layers[0].rss_bytes = 0;
  facts.linears[0].saturated = 0;
  const std::string page = RenderReportHtml(report);
  EXPECT_EQ(FirstFault(page), std::nullopt);
  EXPECT_THAT(page, HasSubstr("No evaluation was made in this run."));
  EXPECT_THAT(page, HasSubstr("None of 4,096 quantized weights"));
  for (const char* absent :
       {"Verdict", "<h2>Warnings", "<h2>Calibration", "<h2>KV cache", "<h2>Error of rounding",
        "<h2>Share of the output error", "<h2>Kept as they are", "Which part costs",
        "Resident memory after", "Tokens hurt most"}) {
    EXPECT_THAT(page, Not(HasSubstr(absent)));
  }
}

TEST(ReportHtml, HostileTextStaysText) {
  const std::string evil = "\"'><script>alert(1)</script><!--\xFF\x01&amp;</style>";
  RunReport report = FullReport();
  report.model = report.version = report.compute.dtype = report.compute.cpu_isa = evil;
  report.command_line = {evil};
  report.warnings = {evil};
  report.strategy->scheme = report.strategy->rounding = evil;
  report.calibration->dataset = evil;
  report.calibration->notice = report.evaluation->notice = evil;
  report.evaluation->dataset = evil;
  report.evaluation->worst_tokens[0].token = report.evaluation->worst_tokens[0].context = evil;
  report.layers[0].facts.linears[0].module = evil;
  report.layers[0].facts.cache->attention_module = evil;
  report.kept->choice.groups[0].modules = {evil, evil};
  const std::string page = RenderReportHtml(report);
  EXPECT_EQ(FirstFault(page), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8(page), -1);
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("<!--")));
  EXPECT_THAT(page, Not(HasSubstr("\x01")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(1)&lt;/script&gt;"));
  EXPECT_THAT(page, HasSubstr("&lt;0xFF&gt;?&amp;amp;"));
}

TEST(ReportHtml, FiguresThatAreNoNumbersDrawNothing) {
  RunReport report = FullReport();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  LayerFacts& facts = report.layers[0].facts;
  facts.linears[0].output_error = kInfinity;
  facts.linears[0].nearest_output_error = 0.0;
  facts.linears[0].weight_amax = facts.linears[0].weight_scale = 0.0F;
  facts.cache->key_scale = std::numeric_limits<float>::infinity();
  report.layers[0].times->seconds = std::numeric_limits<double>::quiet_NaN();
  report.evaluation->deployed.original_window_nll = {-kInfinity, 1.0};
  const std::string page = RenderReportHtml(report);
  EXPECT_EQ(FirstFault(page), std::nullopt);
  for (const char* figure : {"=\"nan", "=\"inf", "=\"-inf", "=\"-nan"}) {
    EXPECT_THAT(page, Not(HasSubstr(figure)));
  }
}

TEST(ReportHtml, LineEndsInTokensAreVisible) {
  RunReport report = FullReport();
  report.evaluation->worst_tokens[0].token = "\n\t";
  EXPECT_THAT(RenderReportHtml(report), HasSubstr("<mark><bdi>↵⇥</bdi></mark>"));
}

TEST(ReportHtml, InputsOfFusedLinearsShareAChart) {
  RunReport report = FullReport();
  LinearFacts linear = report.layers[0].facts.linears[0];
  report.layers[0].facts.linears.clear();
  for (const auto& [module, amax] :
       {std::pair("l.q_proj", 4.0F), std::pair("l.k_proj", 4.0F), std::pair("l.o_proj", 5.0F)}) {
    linear.module = module;
    linear.input_amax = amax;
    linear.weight_amax += 1.0F;
    report.layers[0].facts.linears.push_back(linear);
  }
  const std::string page = RenderReportHtml(report);
  EXPECT_THAT(page, HasSubstr("<figcaption>q_proj, k_proj</figcaption>"));
  EXPECT_THAT(page, HasSubstr("<figcaption>o_proj</figcaption>"));
}

TEST(Chart, EmptyWithoutValues) {
  Chart chart;
  chart.series = {{"a", {std::nullopt, std::nullopt}}};
  EXPECT_EQ(RenderChart(chart), "");
  chart.scale = ChartScale::kLogarithmic;
  chart.series[0].values = {0.0, -1.0};
  EXPECT_EQ(RenderChart(chart), "");
}

TEST(Chart, GapsInterruptTheLine) {
  Chart chart;
  chart.series = {{"a", {1.0, 2.0, std::nullopt, 3.0, 4.0}}};
  const std::string line = Repeated("d=\"M", RenderChart(chart));
  EXPECT_EQ(std::count(line.begin(), line.begin() + line.find('/'), 'M'), 2);
  EXPECT_EQ(std::count(line.begin(), line.begin() + line.find('/'), 'L'), 2);
}

TEST(Axis, HoldsItsValuesAndAFewTicks) {
  const std::vector<std::vector<double>> cases = {
      {0.0}, {7.0}, {-3.0}, {1e-9, 2e-9}, {-1.0, 2.5}, {285.3, 301.9}, {1e12}, {0.1, 0.2, 0.3}};
  for (const std::vector<double>& values : cases) {
    for (const ChartScale scale : {ChartScale::kLinear, ChartScale::kLogarithmic}) {
      if (scale == ChartScale::kLogarithmic && values.front() <= 0) continue;
      const std::optional<Axis> axis = AxisFor(values, scale);
      ASSERT_TRUE(axis);
      for (const double value : values) {
        EXPECT_THAT(axis->Position(value), AllOf(Ge(0.0), Le(1.0))) << value;
      }
      for (const double tick : axis->ticks) {
        EXPECT_THAT(axis->Position(tick), AllOf(Ge(-1e-9), Le(1 + 1e-9))) << tick;
      }
      EXPECT_THAT(axis->ticks.size(), AllOf(Ge(1u), Le(8u))) << values.front();
    }
  }
  EXPECT_FALSE(AxisFor({}, ChartScale::kLinear));
  EXPECT_THAT(AxisFor(std::vector{0.0, 9.0}, ChartScale::kLinear)->ticks,
              ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(AxisFor(std::vector{1e-3, 100.0}, ChartScale::kLogarithmic)->ticks.size(), Le(6u));
}

}  // namespace
}  // namespace narrow
