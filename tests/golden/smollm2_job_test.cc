// Small jobs on the real SmolLM2: killed and continued, and their memory against the plan.
#include "tests/golden/real_model_job.h"

namespace narrow {
namespace {

class SmolLm2Job : public RealModelJob {
 protected:
  std::string Model() const override { return SmolLm2Path(); }
};

// 21 MB of hidden states.
const std::vector<std::string> kManyWindows = {"--eval_windows", "16"};

TEST_F(SmolLm2Job, KilledAndContinuedWhileHiddenStatesSpill) {
  KillAndContinue(12, Spilling(kManyWindows));
}

TEST_F(SmolLm2Job, MemoryIsWhatThePlanSays) {
  ExpectPlanHolds({"--memory_budget", "4GiB"});
  ExpectPlanHolds(Spilling(kManyWindows));
  // Hidden states of 64 x 512 tokens and of 8 x 1024 in three networks in memory: 132 MB.
  ExpectPlanHolds({"--memory_budget", "4GiB", "--num_calib_data", "64", "--seq_len", "512",
                   "--eval_windows", "8", "--window_tokens", "1024", "--attribution_windows", "0"});
}

}  // namespace
}  // namespace narrow
