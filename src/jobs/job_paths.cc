#include "jobs/job_paths.h"

#include "jobs/run_plan.h"
#include "text/dataset.h"

namespace narrow {
namespace {

void Add(const char* name, const DatasetRequest& request, DatasetUse use,
         std::vector<NamedPath>& paths) {
  if (const auto file = DatasetFile(request, use)) paths.push_back({name, *file});
}

}  // namespace

std::vector<NamedPath> ReadPaths(const QuantizeRequest& request) {
  std::vector<NamedPath> paths = {{"--model_dir", request.model_directory}};
  Add("--dataset", request.calibration.dataset, DatasetUse::kCalibration, paths);
  if (request.evaluation) {
    Add("--eval_data", request.evaluation->dataset, DatasetUse::kEvaluation, paths);
  }
  return paths;
}

std::vector<NamedPath> ReadPaths(const EvaluateRequest& request) {
  std::vector<NamedPath> paths = {{"--model_dir", request.model_directory}};
  Add("--eval_data", request.evaluation.dataset, DatasetUse::kEvaluation, paths);
  return paths;
}

void CheckPaths(const QuantizeRequest& request) {
  const JobDirectories directories = DirectoriesOf(request);
  const NamedPath work = {"--work_dir", directories.work};
  std::vector<NamedPath> written = OutputPaths("--output_dir", directories.output);
  CheckApart(written, std::vector{work});
  written.push_back(work);
  CheckApart(written, ReadPaths(request));
}

void CheckPaths(const EvaluateRequest& request) {
  if (!request.work_directory) return;
  CheckApart(std::vector<NamedPath>{{"--work_dir", *request.work_directory}}, ReadPaths(request));
}

}  // namespace narrow
