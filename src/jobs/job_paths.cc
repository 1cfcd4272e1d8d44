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

std::vector<NamedPath> ReadPaths(const CompareRequest& request) {
  std::vector<NamedPath> paths = ReadPaths(static_cast<const EvaluateRequest&>(request));
  paths.push_back({"--reference", request.reference_directory});
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

namespace {

void CheckWorkDirectory(const std::optional<std::filesystem::path>& work,
                        const std::vector<NamedPath>& read) {
  if (work) CheckApart(std::vector<NamedPath>{{"--work_dir", *work}}, read);
}

}  // namespace

void CheckPaths(const EvaluateRequest& request) {
  CheckWorkDirectory(request.work_directory, ReadPaths(request));
}

void CheckPaths(const CompareRequest& request) {
  CheckWorkDirectory(request.work_directory, ReadPaths(request));
}

}  // namespace narrow
