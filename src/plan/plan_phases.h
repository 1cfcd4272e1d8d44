// What each phase of a job reads, writes, computes and how long that takes. Pure arithmetic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "plan/job_work.h"
#include "plan/machine_rates.h"

namespace narrow {

struct NamedSeconds {
  std::string what;
  double seconds = 0;
};

// One phase; bytes are those of checkpoint files unless they say otherwise.
struct PhasePlan {
  std::string name;
  int64_t memory_bytes = 0;
  int64_t read_bytes = 0;
  int64_t written_bytes = 0;
  int64_t spill_read_bytes = 0;     // hidden states, work directory
  int64_t spill_written_bytes = 0;  // hidden states, work directory
  int64_t exchanged_bytes = 0;      // between ranks: of all of them
  double flops = 0;                 // all that is counted
  double forward_flops = 0;         // of these, products and attention of the texts
  std::vector<NamedSeconds> parts;  // that add up to `seconds`, which is 0 without rates
  double seconds = 0;
};

// Phases in their order, from volumes alone; with rates also seconds. A layer takes the longer of
// computing and of reading the next one and writing the last one, and in addition what does not
// overlap: weights not read ahead, and hidden states that spill.
std::vector<PhasePlan> PlanPhases(const JobWork& work, const MemoryChoice& memory,
                                  const MachineRates* rates);
PhasePlan SumOf(const std::vector<PhasePlan>& phases);

}  // namespace narrow
