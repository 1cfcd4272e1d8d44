#include "plan/plan.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <system_error>
#include <tuple>

#include "io/paths.h"
#include "io/staged_directory.h"
#include "text/text_format.h"

namespace narrow {
namespace {

double AsDouble(int64_t value) { return static_cast<double>(value); }

// Disk space the files below a directory occupy; 0 when there is none.
int64_t OccupiedBytes(const std::filesystem::path& directory) {
  int64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    struct stat facts = {};
    if (lstat(it->path().c_str(), &facts) == 0) bytes += int64_t{facts.st_blocks} * 512;
  }
  return bytes;
}

void AddDisk(const DiskNeed& added, std::map<dev_t, DiskNeed>& disks) {
  struct stat facts = {};
  if (stat(added.directory.c_str(), &facts) != 0) {
    Fail(ErrorCode::kIo, "{}: cannot be found any more", added.directory.string());
  }
  const auto [place, first] = disks.try_emplace(facts.st_dev, added);
  if (!first) place->second.needed_bytes += added.needed_bytes;
}

std::vector<DiskNeed> Disks(const JobWork& work, const MemoryChoice& memory,
                            const JobDirectories& directories) {
  std::map<dev_t, DiskNeed> disks;
  if (work.quantizes()) {
    AddDisk(NeedOnDisk(directories.output.parent_path(), work.output_bytes(),
                       StagedDirectory::StagingPath(directories.output)),
            disks);
  }
  // Evaluation alone keeps no state.
  if (work.quantizes() || memory.plan.hidden_states == Placement::kFile) {
    AddDisk(NeedOnDisk(directories.work, work.work_directory_bytes(), directories.work), disks);
  }
  std::vector<DiskNeed> list;
  for (auto& [device, need] : disks) list.push_back(std::move(need));
  return list;
}

// The same job with one flag changed.
std::vector<std::pair<std::string, JobWork>> Variations(const JobWork& work) {
  std::vector<std::pair<std::string, JobWork>> variations;
  const auto vary = [&](std::string flags, const auto& change) {
    JobWork changed = work;
    change(changed);
    variations.emplace_back(std::move(flags), std::move(changed));
  };
  const JobShape& shape = work.shape;
  const int64_t windows = work.window_tokens > 0 ? shape.evaluation_tokens / work.window_tokens : 0;
  if (windows > 16) {
    vary("--eval_windows 16", [](JobWork& w) { w.shape.evaluation_tokens = 16 * w.window_tokens; });
  }
  if (work.quantizes() && shape.evaluation_tokens > 0) {
    vary("--skip_evaluation", [](JobWork& w) { w.shape.evaluation_tokens = 0; });
  }
  if (work.measuring != JobWork::Measuring::kNone) {
    vary(work.measuring == JobWork::Measuring::kErrors ? "--keep_layers 0" : "without --max_kl",
         [](JobWork& w) {
           w.measuring = JobWork::Measuring::kNone;
           w.kept_bytes = 0;
         });
  }
  if (AttributedTokens(shape) > 0) {
    vary("--attribution_windows 0", [](JobWork& w) { w.shape.attribution_tokens = 0; });
  }
  if (work.quantizes() && shape.rounding == RoundingAlgorithm::kCompensated) {
    vary("--quant_algo none", [](JobWork& w) { w.shape.rounding = RoundingAlgorithm::kNearest; });
  }
  if (work.quantizes() && shape.own_weight_scales && shape.evaluation_tokens > 0) {
    vary("--weight_matrix_merge", [](JobWork& w) {
      w.shape.own_weight_scales = false;
      --w.shape.evaluation_variants;
    });
  }
  if (shape.both_attentions && shape.evaluation_tokens > 0) {
    vary("--attention bf16", [](JobWork& w) {
      w.shape.both_attentions = false;
      --w.shape.evaluation_variants;
    });
  }
  const int64_t documents =
      work.calibration_length > 0 ? shape.calibration_tokens / work.calibration_length : 0;
  if (documents >= 32) {
    vary(fmt::format("--num_calib_data {}", documents / 2),
         [&](JobWork& w) { w.shape.calibration_tokens = documents / 2 * w.calibration_length; });
  }
  if (shape.threads > 1) {
    vary(fmt::format("--threads {}", shape.threads / 2), [](JobWork& w) { w.shape.threads /= 2; });
  }
  return variations;
}

std::vector<Alternative> Alternatives(const JobWork& work, int64_t budget,
                                      const MachineRates* rates) {
  std::vector<Alternative> alternatives;
  for (const auto& [flags, changed] : Variations(work)) {
    Alternative& alternative = alternatives.emplace_back();
    alternative.flags = flags;
    alternative.memory_bytes = SmallestBudget(changed.shape);
    alternative.disk_bytes = changed.output_bytes() + changed.work_directory_bytes();
    if (rates == nullptr) continue;
    MachineRates here = *rates;
    if (changed.shape.threads < work.shape.threads) {
      const double share = AsDouble(changed.shape.threads) / AsDouble(work.shape.threads);
      for (double* rate : {&here.products, &here.layer, &here.quantized_layer, &here.hessian,
                           &here.factoring, &here.rounding, &here.packing, &here.rewriting}) {
        *rate *= share;
      }
    }
    alternative.seconds =
        SumOf(PlanPhases(changed, ChoosePassPlan(changed.shape, budget), &here)).seconds;
  }
  return alternatives;
}

// A budget to recommend: the program that is started with it may find itself a little larger than
// this one, by pages of libraries that happen to be in memory.
double RoundedUpGib(int64_t bytes) {
  constexpr int64_t kMarginBytes = int64_t{4} << 20;
  return std::ceil(AsDouble(bytes + kMarginBytes) / 0x1p30 * 100) / 100;
}

[[noreturn]] void RefuseMemory(const JobWork& work, int64_t budget, int64_t smallest) {
  std::vector<Alternative> alternatives = Alternatives(work, budget, nullptr);
  std::ranges::stable_sort(alternatives, {}, &Alternative::memory_bytes);
  std::string advice;
  if (!alternatives.empty() && alternatives.front().memory_bytes < smallest) {
    advice =
        fmt::format("; of the other flags {} helps most: {:.2f} GiB", alternatives.front().flags,
                    RoundedUpGib(alternatives.front().memory_bytes));
  }
  Fail(ErrorCode::kMemoryBudget,
       "the job does not fit {:.2f} GiB of memory; the smallest --memory_budget that would do is "
       "{:.2f}GiB{}",
       AsDouble(budget) / 0x1p30, RoundedUpGib(smallest), advice);
}

}  // namespace

DiskNeed NeedOnDisk(const std::filesystem::path& directory, int64_t bytes,
                    const std::filesystem::path& left) {
  return {ExistingAncestor(directory), std::max<int64_t>(0, bytes - OccupiedBytes(left)),
          FreeBytes(directory)};
}

JobPlan MakePlan(JobWork work, const JobDirectories& directories, int64_t budget_bytes,
                 std::optional<MachineRates> rates) {
  JobPlan plan;
  plan.budget_bytes = budget_bytes;
  plan.smallest_budget_bytes = SmallestBudget(work.shape);
  if (plan.smallest_budget_bytes > budget_bytes) {
    RefuseMemory(work, budget_bytes, plan.smallest_budget_bytes);
  }
  plan.memory = ChoosePassPlan(work.shape, budget_bytes);
  plan.rates = rates;
  const MachineRates* known = plan.rates ? &*plan.rates : nullptr;
  plan.phases = PlanPhases(work, plan.memory, known);
  plan.total = SumOf(plan.phases);
  plan.disks = Disks(work, plan.memory, directories);
  plan.alternatives = Alternatives(work, budget_bytes, known);
  std::ranges::stable_sort(plan.alternatives, [](const Alternative& a, const Alternative& b) {
    return std::tie(a.seconds, a.disk_bytes, a.memory_bytes) <
           std::tie(b.seconds, b.disk_bytes, b.memory_bytes);
  });
  plan.work = std::move(work);
  return plan;
}

void AddDownload(DownloadPlan download, JobPlan& plan) {
  std::map<dev_t, DiskNeed> disks;
  AddDisk(
      {ExistingAncestor(download.directory), download.disk_bytes, FreeBytes(download.directory)},
      disks);
  for (auto& [device, need] : disks) {
    struct stat other = {};
    const auto same = std::ranges::find_if(plan.disks, [&](const DiskNeed& disk) {
      return ::stat(disk.directory.c_str(), &other) == 0 && other.st_dev == device;
    });
    if (same == plan.disks.end()) {
      plan.disks.push_back(need);
    } else {
      same->needed_bytes += need.needed_bytes;
    }
  }
  plan.download = std::move(download);
}

void CheckDisks(const JobPlan& plan) {
  for (const DiskNeed& disk : plan.disks) {
    if (disk.needed_bytes <= disk.free_bytes) continue;
    std::string advice;
    const auto best = std::ranges::min_element(plan.alternatives, {}, &Alternative::disk_bytes);
    const int64_t now = plan.work.output_bytes() + plan.work.work_directory_bytes();
    if (best != plan.alternatives.end() && best->disk_bytes < now) {
      advice = fmt::format(", or use {}, which needs {} less", best->flags,
                           FormatBytes(now - best->disk_bytes));
    }
    Fail(ErrorCode::kIo, "{}: {}hidden states need {}, the disk has {} free; make room{}",
         disk.directory.string(), plan.work.quantizes() ? "output and " : "",
         FormatBytes(disk.needed_bytes), FormatBytes(disk.free_bytes), advice);
  }
}

}  // namespace narrow
