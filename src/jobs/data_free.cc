#include "jobs/data_free.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/memory_use.h"
#include "formats/config.h"
#include "io/config_dtype.h"
#include "jobs/data_free_pass.h"
#include "jobs/data_free_plan.h"
#include "jobs/job_paths.h"
#include "jobs/module_choice.h"
#include "jobs/quantize_job.h"
#include "jobs/run_plan.h"
#include "model/side_files.h"
#include "schemes/scheme_presets.h"

namespace narrow {
namespace {

std::string NamesWithoutCalibration() {
  std::string names;
  for (const SchemePreset& preset : SchemePresets()) {
    if (NeedsCalibration(preset.scheme)) continue;
    names += names.empty() ? "" : ", ";
    names += preset.name;
  }
  return names;
}

void CheckRecipe(const Recipe& recipe) {
  for (const RecipeRule& rule : recipe.rules) {
    if (!rule.scheme || !NeedsCalibration(*rule.scheme)) continue;
    Fail(ErrorCode::kUnsupported,
         "scheme {} keeps scales of its inputs in the checkpoint, which come from calibration; "
         "these do without: {}",
         rule.name, NamesWithoutCalibration());
  }
}

CheckpointFiles FilesOf(const QuantizeRequest& job) {
  return job.weights ? job.weights() : FindCheckpointFiles(job.model_directory);
}

class DataFreeRun {
 public:
  explicit DataFreeRun(const DataFreeRequest& request)
      : request_(request),
        format_(FormatOf(request.recipe, request.format)),
        checkpoint_(FilesOf(request.job)),
        choices_(ChooseModules(checkpoint_, {request.recipe, &format_, request.job.exclude_patterns,
                                             request.include_patterns})),
        plan_(MakeDataFreePlan(checkpoint_, choices_, format_, request.exact_quotient)),
        config_(WithQuantizationConfig(
            checkpoint_.config(), format_.config(choices_.Describe()),
            {.own_head = false, .architecture = "", .model_dtype = ModelDtype()})),
        side_files_(PlanSideFiles(request.job.model_directory)) {
    CheckWhole();
    result_.schemes = NamesOf(request.recipe);
    result_.format = format_.name;
    result_.quantized = std::ranges::count_if(choices_.modules, &ModuleChoice::quantized);
    result_.kept = std::ssize(choices_.modules) - result_.quantized;
    result_.source_bytes = plan_.source_bytes;
    result_.output_bytes = plan_.output_bytes;
    result_.memory_bytes = plan_.memory_bytes;
    result_.choices = DescribeChoices(choices_);
    result_.warnings = choices_.warnings;
    for (const std::string& remark : checkpoint_.remarks()) result_.warnings.push_back(remark);
    for (const std::string& warning : side_files_.warnings) result_.warnings.push_back(warning);
  }

  const DataFreeResult& result() const { return result_; }

  DataFreeResult Run(ProgressSink& progress) {
    const auto start = std::chrono::steady_clock::now();
    progress.Info(fmt::format("{} in the format {}, from the weights alone", result_.schemes,
                              result_.format));
    for (const std::string& line : result_.choices) progress.Info(line);
    for (const std::string& warning : result_.warnings) progress.Warning(warning);
    CheckDisk();
    QuantizeJob job(request_.job, JobFingerprint());
    job.RunTensors(
        [&](int64_t done, const std::function<void(int64_t)>& save, ProgressSink& sink) {
          RunDataFreePass(checkpoint_, plan_, job.output().path(),
                          {.max_shard_bytes = request_.job.max_shard_bytes,
                           .items_done = done,
                           .save_interval_seconds = request_.job.save_interval_seconds,
                           .save = save},
                          sink);
          checkpoint_.CheckUnchanged();
        },
        progress);
    job.Conclude([&] {
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
      result_.seconds = taken.count();
      WriteRest(job.output().path());
    });
    return std::move(result_);
  }

 private:
  void CheckWhole() const {
    if (checkpoint_.absent().empty()) return;
    const auto& [tensor, file] = *checkpoint_.absent().begin();
    Fail(ErrorCode::kCorruptInput, "{}: the index places {} in {}, which does not hold it",
         checkpoint_.directory().string(), Quoted(tensor), file);
  }

  // The type of the weights that are quantized first.
  std::string ModelDtype() const {
    const auto first = std::ranges::find_if(choices_.modules, &ModuleChoice::quantized);
    return DtypeName(first->linear.type);
  }

  void CheckDisk() const {
    const std::filesystem::path output = DirectoriesOf(request_.job).output;
    const DiskNeed disk =
        NeedOnDisk(output.parent_path(), plan_.output_bytes, StagedDirectory::StagingPath(output));
    if (disk.needed_bytes <= disk.free_bytes) return;
    Fail(ErrorCode::kIo, "{}: the output needs {:.1f} GB, the disk has {:.1f} GB free; make room",
         disk.directory.string(), static_cast<double>(disk.needed_bytes) * 1e-9,
         static_cast<double>(disk.free_bytes) * 1e-9);
  }

  Fingerprint JobFingerprint() const {
    Fingerprint fingerprint;
    fingerprint["program version"] = request_.job.version;
    fingerprint["job"] = "without calibration";
    if (!request_.job.revision.empty()) fingerprint[kRevisionKey] = request_.job.revision;
    fingerprint["--max_shard_size"] = fmt::format("{}", request_.job.max_shard_bytes);
    fingerprint["--exact_quotient"] = request_.exact_quotient ? "yes" : "no";
    const std::string config = config_.dump();
    AddHash(fingerprint, "config.json of the output", std::as_bytes(std::span(config)));
    std::string tensors;
    for (const TensorSpec& tensor : plan_.Tensors()) {
      tensors += fmt::format("{} {} {}\n", tensor.name, Name(tensor.dtype), tensor.bytes());
    }
    AddHash(fingerprint, "tensors of the output", std::as_bytes(std::span(tensors)));
    AddFiles(fingerprint, checkpoint_);
    return fingerprint;
  }

  void WriteRest(const std::filesystem::path& directory) const {
    WriteFileAtomically(directory / "config.json", RenderJsonFile(config_));
    CopySideFiles(side_files_, directory);
    WriteFileAtomically(directory / "narrow-report.json", RenderJsonFile(Report()));
  }

  Json Report() const {
    Json report = Json::object();
    report["version"] = request_.job.version;
    report["command_line"] = request_.job.command_line;
    report["strategy"] = {{"scheme", result_.schemes},
                          {"format", result_.format},
                          {"rounding", "to nearest"},
                          {"head_basis", "none"},
                          {"calibration", "none"}};
    report["source_bytes"] = result_.source_bytes;
    report["output_bytes"] = result_.output_bytes;
    report["seconds"] = result_.seconds;
    report["peak_rss_bytes"] = PeakResidentBytes();
    report["warnings"] = result_.warnings;
    Json quantized = Json::object(), kept = Json::object();
    for (const ModuleChoice& choice : choices_.modules) {
      if (!choice.scheme) {
        kept[choice.linear.module] = choice.reason;
      } else if (const SchemePreset* preset = PresetOf(*choice.scheme)) {
        quantized[choice.linear.module] = preset->name;
      }
    }
    report["quantized"] = std::move(quantized);
    report["kept"] = std::move(kept);
    return report;
  }

  const DataFreeRequest& request_;
  const SchemeFormat& format_;
  const CheckpointReader checkpoint_;
  const ModuleChoices choices_;
  const DataFreePlan plan_;
  const Json config_;
  const SideFilePlan side_files_;
  DataFreeResult result_;
};

}  // namespace

DataFreeResult PlanDataFree(const DataFreeRequest& request) {
  CheckRecipe(request.recipe);
  return DataFreeRun(request).result();
}

std::string Summary(const DataFreeResult& result) {
  return fmt::format("{} of {} matrices in {} ({}), {:.1f} MB of {:.1f} MB\n", result.quantized,
                     result.quantized + result.kept, result.schemes, result.format,
                     static_cast<double>(result.output_bytes) * 1e-6,
                     static_cast<double>(result.source_bytes) * 1e-6);
}

void CheckBeforeWeights(const DataFreeRequest& request) {
  CheckRecipe(request.recipe);
  static_cast<void>(FormatOf(request.recipe, request.format));
  CheckPaths(request.job);
  StagedDirectory::CheckFinalPath(request.job.output_directory, request.job.existing);
}

DataFreeResult RunDataFree(const DataFreeRequest& request, ProgressSink& progress) {
  CheckRecipe(request.recipe);
  CheckPaths(request.job);
  QuantizeJob::RemoveFinished(request.job);
  StagedDirectory::CheckFinalPath(request.job.output_directory, request.job.existing);
  return DataFreeRun(request).Run(progress);
}

}  // namespace narrow
