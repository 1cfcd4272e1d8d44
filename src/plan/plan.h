// What a job will take, before it begins: memory, disk and time, phase by phase.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/json.h"
#include "plan/job_work.h"
#include "plan/machine_rates.h"
#include "plan/plan_phases.h"

namespace narrow {

// Space a job needs in one directory, and what its file system has.
struct DiskNeed {
  std::filesystem::path directory;  // an existing one, on the same file system
  int64_t needed_bytes = 0;         // beyond what an interrupted run left there
  int64_t free_bytes = 0;
};

// What one flag changes.
struct Alternative {
  std::string flags;
  int64_t memory_bytes = 0;  // the smallest budget
  int64_t disk_bytes = 0;    // output and work directory
  double seconds = 0;        // 0: not known
};

// What fetching the weights from the hub takes.
struct DownloadPlan {
  int64_t files = 0;
  int64_t model_bytes = 0;          // of all weight files
  int64_t bytes = 0;                // that are to come; what a job reads twice counts twice
  int64_t disk_bytes = 0;           // at most at the same time
  std::filesystem::path directory;  // where they go
  bool streamed = false;            // --stream
  bool twice = false;               // the job fetches them twice
  int64_t measured_bytes = 0;       // that the rate was measured on; 0: it was not
  double bytes_per_second = 0;
  double seconds = 0;  // beside those of the job; streamed, they overlap with it
};

struct JobPlan {
  JobWork work;
  int64_t budget_bytes = 0;
  int64_t smallest_budget_bytes = 0;
  MemoryChoice memory;
  std::vector<PhasePlan> phases;
  PhasePlan total;
  std::vector<DiskNeed> disks;  // one per file system
  std::optional<MachineRates> rates;
  std::vector<Alternative> alternatives;  // the most helpful first
  std::vector<std::string> assumptions;   // sentences
  std::optional<DownloadPlan> download;   // of a model of the hub
};

// Where a job leaves its files.
struct JobDirectories {
  std::filesystem::path output;
  std::filesystem::path work;
};

// Of the disk that `directory` lies on, for `bytes` there, of which an interrupted run left those
// below `left`. Throws: kIo.
DiskNeed NeedOnDisk(const std::filesystem::path& directory, int64_t bytes,
                    const std::filesystem::path& left);

// The plan of a job that has been read, with times where `rates` are given.
// Throws: kMemoryBudget naming the smallest budget and the flag that lowers it most.
JobPlan MakePlan(JobWork work, const JobDirectories& directories, int64_t budget_bytes,
                 std::optional<MachineRates> rates);

// "Download: 1.2 GB of 3 GB in 2 weight files, ...".
std::string DescribeDownload(const DownloadPlan& download);
Json DownloadJson(const DownloadPlan& download);
// Adds what the download takes, its disk among the others.
void AddDownload(DownloadPlan download, JobPlan& plan);

// Throws: kIo when a disk is too small, naming what is needed, what is free and the flag that
// helps.
void CheckDisks(const JobPlan& plan);

// "Memory: ...", "Disk: ...", and the time to expect where it is known: sentences for the user.
std::vector<std::string> ShortPlan(const JobPlan& plan);

// A table for people, and the same for programs.
std::string RenderPlan(const JobPlan& plan);
Json PlanJson(const JobPlan& plan);

}  // namespace narrow
