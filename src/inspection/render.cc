#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>
#include <vector>

#include "inspection/inspect.h"
#include "io/json.h"

namespace narrow {
namespace {

std::string Printable(const std::string& name) {
  const std::string quoted = Quoted(name);
  return quoted.substr(1, quoted.size() - 2);
}

std::string SizeText(int64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} B", bytes);
  constexpr std::array<std::string_view, 5> kUnits = {"kB", "MB", "GB", "TB", "PB"};
  double value = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  for (; value >= 1000 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string_view SeverityText(Severity severity) {
  return severity == Severity::kError ? "error" : "warning";
}

std::string Plural(int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

using Row = std::array<std::string, 6>;

std::vector<Row> Rows(const InspectionReport& report) {
  std::vector<Row> rows = {{"tensor", "dtype", "shape", "size", "file", "scale"}};
  for (const InspectedTensor& tensor : report.tensors) {
    rows.push_back({Printable(tensor.name), std::string(Name(tensor.dtype)),
                    fmt::format("[{}]", fmt::join(tensor.shape, ", ")), SizeText(tensor.bytes),
                    tensor.file, fmt::format("{:.6g}", fmt::join(tensor.scale, " "))});
  }
  return rows;
}

void AppendTable(const std::vector<Row>& rows, std::string& text) {
  std::array<std::size_t, 6> widths = {};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const Row& row : rows) {
    std::string line =
        fmt::format("{:<{}}  {:<{}}  {:<{}}  {:>{}}  {:<{}}  {}", row[0], widths[0], row[1],
                    widths[1], row[2], widths[2], row[3], widths[3], row[4], widths[4], row[5]);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
}

}  // namespace

std::string RenderInspection(const InspectionReport& report) {
  std::string text;
  AppendTable(Rows(report), text);
  text += fmt::format(
      "\n{}: {} in {}, {}; model type {}, {}\n", report.directory,
      Plural(static_cast<int64_t>(report.tensors.size()), "tensor"), Plural(report.files, "file"),
      SizeText(report.bytes), report.model_type.empty() ? "unknown" : Printable(report.model_type),
      report.quant_method.empty() ? "not quantized"
                                  : "quantization " + Printable(report.quant_method));
  for (const DtypeTotal& total : report.totals) {
    text += fmt::format("  {:<8} {:>6} tensors {:>15} elements {:>10}\n", Name(total.dtype),
                        total.tensors, total.elements, SizeText(total.bytes));
  }
  for (const std::string& note : report.notes) text += fmt::format("note: {}\n", note);
  for (const Finding& finding : report.problems) {
    text += fmt::format("{}: {}\n", SeverityText(finding.severity), finding.text);
  }
  if (report.problems.empty()) text += "no problems found\n";
  return text;
}

std::string RenderInspectionJson(const InspectionReport& report) {
  Json json = {{"directory", report.directory},
               {"model_type", report.model_type},
               {"quant_method", report.quant_method},
               {"files", report.files},
               {"bytes", report.bytes},
               {"totals", Json::array()},
               {"tensors", Json::array()},
               {"notes", report.notes},
               {"problems", Json::array()}};
  for (const DtypeTotal& total : report.totals) {
    json["totals"].push_back({{"dtype", Name(total.dtype)},
                              {"tensors", total.tensors},
                              {"elements", total.elements},
                              {"bytes", total.bytes}});
  }
  for (const InspectedTensor& tensor : report.tensors) {
    Json entry = {{"name", tensor.name},
                  {"dtype", Name(tensor.dtype)},
                  {"shape", tensor.shape},
                  {"bytes", tensor.bytes},
                  {"file", tensor.file}};
    if (tensor.scale.size() == 1) entry["scale"] = tensor.scale.front();
    if (tensor.scale.size() > 1) entry["scale"] = tensor.scale;
    json["tensors"].push_back(std::move(entry));
  }
  for (const Finding& finding : report.problems) {
    json["problems"].push_back(
        {{"severity", SeverityText(finding.severity)}, {"text", finding.text}});
  }
  // Paths need not be UTF-8; a replacement character beats no report.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace narrow
