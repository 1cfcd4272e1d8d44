#include "inspection/inspect.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "inspection/expected_tensors.h"
#include "inspection/findings.h"
#include "inspection/inventory.h"
#include "inspection/number_checks.h"
#include "inspection/quantization_checks.h"
#include "inspection/scale_checks.h"
#include "inspection/scheme_checks.h"
#include "inspection/side_checks.h"
#include "inspection/upload_checks.h"

namespace narrow {
namespace {

std::vector<DtypeTotal> Totals(const std::vector<InspectedTensor>& tensors) {
  std::vector<DtypeTotal> totals;
  for (const InspectedTensor& tensor : tensors) {
    auto total = std::find_if(totals.begin(), totals.end(), [&](const DtypeTotal& candidate) {
      return candidate.dtype == tensor.dtype;
    });
    if (total == totals.end()) {
      total = totals.insert(total, {tensor.dtype, 0, 0, 0});
    }
    ++total->tensors;
    total->elements += tensor.bytes / ElementBytes(tensor.dtype);
    total->bytes += tensor.bytes;
  }
  std::stable_sort(totals.begin(), totals.end(),
                   [](const DtypeTotal& a, const DtypeTotal& b) { return a.bytes > b.bytes; });
  return totals;
}

}  // namespace

InspectionReport Inspect(const std::filesystem::path& directory, const InspectOptions& options) {
  Findings findings;
  Inventory inventory = ReadInventory(directory, findings);
  InspectionReport report;
  report.directory = directory.string();
  report.files = inventory.files;
  try {
    report.model_type = OptionalString(inventory.config, "model_type", "config.json").value_or("");
    report.quant_method = QuantMethod(inventory.config);
  } catch (const Error&) {
    // The checks below meet the same value and report it.
  }
  const std::optional<ExpectedModel> model = FindExpectedModel(inventory, findings);
  const auto [schemes, unreadable] = FindStoredSchemes(inventory.config, findings);
  if (schemes) {
    const Inventory plain = CheckSchemes(directory, inventory, *schemes, findings);
    if (model) CheckTensors(*model, plain, findings);
    if (model && schemes->cache_scales()) {
      CheckKvScales(inventory, *model, KvScales::kPromised, findings);
    }
  } else if (model && !unreadable) {
    CheckTensors(*model, inventory, findings);
  }
  CheckSideFiles(directory, findings);
  if (auto note = BasisNote(directory)) report.notes.push_back(*std::move(note));
  if (!schemes && !unreadable) CheckQuantization(inventory, model ? &*model : nullptr, findings);
  if (options.for_upload) {
    const int64_t before = findings.count();
    CheckForUpload(directory, inventory, findings);
    if (findings.count() == before) report.notes.emplace_back("nothing is missing for an upload");
  }
  if (model) {
    if (auto note = CheckQueryScales(inventory, *model, findings)) {
      report.notes.push_back(*std::move(note));
    }
  }
  if (model) {
    if (auto note = FindLatentScales(inventory, *model)) report.notes.push_back(*std::move(note));
  }
  if (options.numbers == InspectOptions::Numbers::kRead) {
    SilentProgress silent;
    CheckNumbers(directory, inventory, options.progress ? *options.progress : silent, findings);
  }

  report.tensors = std::move(inventory.tensors);
  report.totals = Totals(report.tensors);
  for (const DtypeTotal& total : report.totals) report.bytes += total.bytes;
  report.problems = findings.Take();
  return report;
}

}  // namespace narrow
