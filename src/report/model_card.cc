#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "report/card_metadata.h"
#include "report/report.h"
#include "text/text_format.h"

namespace narrow {
namespace {

// A code block whose fence is longer than any run of backticks in it.
std::string CodeBlock(std::string_view code) {
  std::size_t longest = 0;
  std::size_t run = 0;
  for (const char c : code) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(std::max<std::size_t>(3, longest + 1), '`');
  return fmt::format("{}sh\n{}\n{}\n", fence, code, fence);
}

std::string Introduction(const RunReport& report, const SourceFacts& source) {
  return fmt::format(
      "## Introduction\n\n"
      "{} with its linear layers in {}{}, made by narrow {}. The checkpoint is in the "
      "Hugging "
      "Face layout and loads in vLLM.\n",
      MarkdownText(source.name), report.strategy->is_data ? report.strategy->scheme : "FP8 E4M3",
      report.strategy->kv_cache == KvCacheQuantization::kFp8 ? " and scales for an FP8 KV cache"
                                                             : "",
      MarkdownText(report.version));
}

std::string ExcludedList(const std::vector<std::string>& excluded) {
  std::string names;
  for (const std::string& name : excluded) {
    if (!names.empty()) names += ", ";
    names += MarkdownText(name);
  }
  return names.empty() ? "none" : names;
}

std::string Basis(const RunReport::Strategy& strategy) {
  if (strategy.head_basis != "fitted") return "";
  return "- Heads of K and V: in a basis of their own in which FP8 rounds them with less effect, "
         "undone in the rows of q_proj and the columns of o_proj\n";
}

std::string Rounding(const RunReport::Strategy& strategy) {
  if (strategy.rounding != "gptq") return "- Rounding of weights: to nearest\n";
  std::string text =
      "- Rounding of weights: error-compensated (GPTQ), with second-order statistics of the "
      "calibration inputs";
  if (strategy.hessian_block_columns > 0) {
    text += fmt::format(" in blocks of at most {} columns",
                        FormatCount(strategy.hessian_block_columns));
  }
  if (!strategy.weight_merge_groups && strategy.head_basis != "fitted") {
    text +=
        ". At load vLLM requantizes q/k/v and gate/up to one scale each, and most of the gain of "
        "compensated rounding is lost; it stays when scales are shared: leave out "
        "--no_weight_matrix_merge";
  }
  return text + "\n";
}

// What was left because of its measured error, and what that costs.
std::string Kept(const RunReport& report) {
  if (!report.kept) return "";
  std::string text = fmt::format("- Kept because of their measured error: {}\n",
                                 MarkdownText(DescribeKept(report)));
  for (const LayerGroup& group : report.kept->choice.groups) {
    text += fmt::format("  - {}: {:.1f} % of the output error, {} more\n",
                        MarkdownText(DescribeGroup(group)), 100 * group.share,
                        FormatBytes(group.extra_bytes));
  }
  if (const std::string limit = DescribeLimit(report); !limit.empty()) {
    text += fmt::format("- {}\n", MarkdownText(limit));
  }
  return text;
}

std::string QuantizationStrategy(const RunReport& report) {
  const RunReport::Strategy& strategy = *report.strategy;
  std::string text = fmt::format(
      "- Weights: FP8 E4M3, symmetric, per tensor, static{}\n"
      "- Inputs of the linear layers: FP8 E4M3, symmetric, per tensor, static\n",
      strategy.weight_merge_groups ? "; matrices that are fused at load share one scale"
                                   : "; every matrix has its own scale");
  if (strategy.is_data) text.clear();
  for (const std::string& summary : strategy.summaries) text += "- " + summary + "\n";
  text.insert(0, "## Quantization Strategy\n\n");
  if (strategy.kv_cache == KvCacheQuantization::kFp8) {
    text +=
        "- KV cache: FP8 E4M3, symmetric, per tensor, static, K after RoPE; own scales for K and "
        "V\n";
  } else {
    text += "- KV cache: not quantized\n";
  }
  text += Rounding(strategy) + Basis(strategy);
  text += fmt::format("- Left as they are: embeddings, norms and these linear layers: {}\n",
                      ExcludedList(strategy.excluded_linears));
  text += Kept(report);
  if (report.calibration) {
    const RunReport::Calibration& calibration = *report.calibration;
    text += fmt::format("- Calibration: {}\n", MarkdownText(DescribeCalibration(calibration)));
    if (calibration.notice) text += fmt::format("\n> {}\n", MarkdownText(*calibration.notice));
  }
  return text;
}

std::string Deployment(const RunReport& report, const std::string& output_name) {
  const bool kv_cache = report.strategy->kv_cache == KvCacheQuantization::kFp8;
  std::vector<std::string> words = {"vllm", "serve", output_name};
  if (kv_cache) words.insert(words.end(), {"--kv-cache-dtype", "fp8"});
  std::string text = "## Deployment\n\n" + CodeBlock(ShellCommand(words));
  if (kv_cache) {
    text +=
        "\nWithout `--kv-cache-dtype fp8` vLLM keeps the cache in the model's own type and drops "
        "the K and V scales of this checkpoint without a message.\n";
  }
  if (const std::string adapters = DescribeAdapters(report); !adapters.empty()) {
    text += fmt::format("\n**Adapters.** {}.\n", MarkdownText(adapters));
  }
  return text;
}

std::string EvaluationTable(const RunReport::Evaluation& evaluation) {
  const DivergenceSummary& deployed = evaluation.deployed;
  const DivergenceSummary& pseudo = evaluation.pseudo();
  const auto perplexity = [](const DivergenceSummary& of) {
    return fmt::format("{:.4f} ({})", of.perplexity,
                       FormatChange(of.original_perplexity, of.perplexity));
  };
  const auto other = [&](const auto& format) {
    const auto& of = evaluation.bf16_attention;
    return of ? format(*of) + " | " : std::string();
  };
  std::string text = fmt::format(
      "| {} | Original | As vLLM runs it (deployed) | {}Pseudo-quantized |\n|---|---|---|---|{}\n"
      "| Perplexity | {:.4f} | {} | {}{} |\n",
      MarkdownText(DescribeEvaluation(evaluation)),
      evaluation.bf16_attention ? "With bf16 attention | " : "",
      evaluation.bf16_attention ? "---|" : "", deployed.original_perplexity, perplexity(deployed),
      other(perplexity), perplexity(pseudo));
  const auto row = [&](const char* label, const auto& format) {
    text += fmt::format("| {} | | {} | {}{} |\n", label, format(deployed), other(format),
                        format(pseudo));
  };
  row("Loss increase, nats per token",
      [](const DivergenceSummary& of) { return FormatEstimate(of.nll_increase, 4); });
  row("KL divergence from the original, nats per token",
      [](const DivergenceSummary& of) { return FormatEstimate(of.kl, 4); });
  row("Same most probable token", [](const DivergenceSummary& of) {
    return fmt::format("{:.2f} %", 100 * of.top1_agreement.mean);
  });
  return text;
}

std::string AttributionTable(const RunReport::Evaluation& evaluation) {
  if (evaluation.part_costs.empty()) return "";
  const int64_t windows = evaluation.attributed_windows;
  std::string text = fmt::format(
      "\n| Quantized, over {} window{} | KL | Added by this part | Loss increase | Added by this "
      "part "
      "|\n|---|---|---|---|---|\n",
      windows, windows == 1 ? "" : "s");
  const char* sign = "";
  for (const PartCost& cost : evaluation.part_costs) {
    text += fmt::format("| {}{} | {} | {} | {} | {} |\n", sign, PartName(PartId(cost.part)),
                        FormatEstimate(cost.kl, 4), FormatEstimate(cost.kl_added, 4),
                        FormatEstimate(cost.nll_increase, 4), FormatEstimate(cost.nll_added, 4));
    sign = "+ ";
  }
  return text;
}

std::string EvaluationSection(const RunReport& report) {
  const std::string heading = "## Evaluation\n\n";
  if (!report.evaluation) return heading + "No evaluation was made in this run.\n";
  const RunReport::Evaluation& evaluation = *report.evaluation;
  std::string text = heading + EvaluationTable(evaluation);
  text += fmt::format("\nVerdict, as deployed: {}.\n", MarkdownText(DeployedVerdict(report)));
  text += AttributionTable(evaluation);
  text +=
      "\nDeployed is the arithmetic of vLLM on the bytes of this checkpoint, scales merged as it "
      "does at load. Pseudo-quantized leaves every matrix at its own scale: the figure that is "
      "comparable with Quark's tables.";
  if (const std::string attention = DescribeAttention(evaluation); !attention.empty()) {
    text += fmt::format(" {}.", attention);
  }
  if (evaluation.bf16_attention) text += " Pseudo-quantized has bf16 attention.";
  if (!evaluation.own_scales) {
    text += fmt::format(" Here {} one network, because fused matrices share their scale.",
                        evaluation.bf16_attention ? "those two are" : "the two are");
  }
  text +=
      " After ± stands one standard error of the paired difference, with the windows as clusters. "
      "More figures are in `report.html` and `narrow-report.json`.\n";
  if (evaluation.notice) text += fmt::format("\n> {}\n", MarkdownText(*evaluation.notice));
  return text;
}

std::string License(const SourceFacts& source) {
  std::string text = "## License\n\nThe license of the base model applies";
  if (source.license) {
    text += fmt::format(": {}", MarkdownText(source.license_name.value_or(*source.license)));
  } else {
    text += "; the source directory does not name it, so look it up before you publish";
  }
  text += ".";
  if (source.license_file) {
    text += fmt::format(" Its text is in [{0}]({0}).", *source.license_file);
  }
  return text + "\n";
}

}  // namespace

std::string RenderModelCard(const RunReport& report, const SourceFacts& source,
                            const std::string& output_name) {
  NARROW_CHECK(report.strategy.has_value());
  return RenderCardMetadata(report, source, output_name) +
         fmt::format("\n# {}\n\n", MarkdownText(output_name)) + Introduction(report, source) +
         "\n" + QuantizationStrategy(report) +
         "\n## Quick Start\n\nThe command that made this checkpoint:\n\n" +
         CodeBlock(ShellCommand(report.command_line)) + "\n" + Deployment(report, output_name) +
         "\n" + EvaluationSection(report) + "\n" + License(source);
}

}  // namespace narrow
