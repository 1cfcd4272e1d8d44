// What the ranks of a job (base/ranks.h) agree on before they begin. Of a rank that is alone,
// nothing changes.
#pragma once

#include <functional>
#include <memory>

#include "jobs/quantize_job.h"
#include "model/model_source.h"
#include "plan/plan.h"
#include "report/report.h"
#include "stream/run_state.h"

namespace narrow {

// How memory is used, by all ranks alike.
struct SharedPlan {
  PassPlan pass;
  int64_t hessian_block_columns = 0;
};
// What the leader plans and says. Throws: as `make`; kMemoryBudget where hidden states of several
// ranks do not fit into memory.
SharedPlan SharePlan(const std::function<JobPlan()>& make, ProgressSink& progress);

// Throws: kInvalidArgument naming the first host where something that decides the result is not
// what the leader has. Copies of the same files may be of different times.
void CheckSameModel(const ModelSource& model);
void CheckSameJob(const Fingerprint& fingerprint);

// Time of every rank since `seconds` before now; nothing of one that is alone.
std::vector<RunReport::Compute::Rank> TimesOfRanks(double seconds);

// The job that the leader of the ranks keeps on its disk; what is saved there all begin with.
std::unique_ptr<PassJob> OpenJob(const QuantizeRequest& request, Fingerprint fingerprint);

}  // namespace narrow
