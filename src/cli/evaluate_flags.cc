#include "cli/evaluate_flags.h"

#include "base/ranks.h"
#include "jobs/dataset_fetch.h"
#include "jobs/model_location.h"

namespace narrow {

EvaluateRequest MakeEvaluateRequest(const EvaluateFlags& flags, ProgressSink& progress) {
  EvaluateRequest request;
  request.evaluation = flags.evaluation.Options();
  JobRanks().FirstOnHost([&] {
    request.model_directory = LocateModel(flags.model_dir, ModelPart::kAll, progress);
    FetchDataset(request.evaluation.dataset, DatasetUse::kEvaluation, 0, progress);
  });
  request.attention = flags.attention.Figures();
  request.data_type = flags.compute.Apply();
  request.rope_factors = flags.compute.RopeFactorsAsked();
  request.memory_budget_bytes = flags.memory.Budget();
  if (!flags.work_dir.empty()) request.work_directory = flags.work_dir;
  return request;
}

CompareRequest MakeCompareRequest(const EvaluateFlags& flags, ProgressSink& progress) {
  CompareRequest request;
  static_cast<EvaluateRequest&>(request) = MakeEvaluateRequest(flags, progress);
  JobRanks().FirstOnHost([&] {
    request.reference_directory = LocateModel(flags.reference, ModelPart::kAll, progress);
  });
  request.reference_name = flags.reference;
  request.model_name = flags.model_dir;
  if (flags.attribution_windows) request.attribution_windows = *flags.attribution_windows;
  return request;
}

}  // namespace narrow
