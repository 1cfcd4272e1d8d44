#include "jobs/shared_job.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/ranks.h"
#include "model/norm.h"
#include "model/stored_layer.h"

namespace narrow {
namespace {

// Of a rank that follows: the leader writes and saves.
class FollowingJob final : public PassJob {
 public:
  FollowingJob(const QuantizeRequest& request, std::optional<RunState> state)
      : request_(request), state_(std::move(state)) {
    if (state_) kept_ = state_->kept;
  }

  std::filesystem::path output_path() const override { return request_.output_directory; }
  const std::optional<KeptGroups>& kept() const override { return kept_; }

  PassResult Run(PassRequest pass, ProgressSink& display) override {
    pass.save_interval_seconds = request_.save_interval_seconds;
    pass.save = [](const RunState&) {};
    if (state_ && state_->layers_done > 0) pass.resume = &*state_;
    return RunStreamingPass(pass, display);
  }

  void WriteWith(KeptGroups kept) override {
    kept_ = std::move(kept);
    state_.reset();
  }
  void Abandon() override {}
  void Attempt(const std::function<void()>& work) override { work(); }
  void Conclude(const std::function<void()>&) override {}

 private:
  const QuantizeRequest& request_;
  std::optional<RunState> state_;
  std::optional<KeptGroups> kept_;
};

}  // namespace

SharedPlan SharePlan(const std::function<JobPlan()>& make, ProgressSink& progress) {
  SharedPlan shared;
  if (JobRanks().leads()) {
    const JobPlan plan = make();
    for (const std::string& line : ShortPlan(plan)) progress.Info(line);
    shared = {plan.memory.plan, plan.memory.hessian_block_columns};
  }
  JobRanks().Share(shared);
  if (JobRanks().count() > 1 && shared.pass.hidden_states == Placement::kFile) {
    Fail(
        ErrorCode::kMemoryBudget,
        "the hidden states of {} ranks do not fit in memory, and are spilled to a file only by one "
        "that is alone; use more machines, or a larger --memory_budget",
        JobRanks().count());
  }
  return shared;
}

void CheckSameModel(const ModelSource& model) {
  Ranks& ranks = JobRanks();
  if (ranks.count() == 1) return;
  Fingerprint facts;
  const std::string config = model.checkpoint->config().dump();
  AddHash(facts, "config.json", std::as_bytes(std::span(config)));
  const StoredNorm norm = ReadNorm(*model.checkpoint, model.family->model(model.config).final_norm);
  AddHash(facts, "the final norm", norm.weight.bytes.span());
  std::string files;
  for (const CheckpointReader::FileFacts& file : model.checkpoint->files()) {
    files += fmt::format("{} {}\n", file.name, file.bytes);
  }
  AddHash(facts, "the list of weight files, with their sizes,", std::as_bytes(std::span(files)));
  for (const auto& [name, value] : facts) CheckAlike(ranks, name, value);
}

void CheckSameJob(const Fingerprint& fingerprint) {
  Ranks& ranks = JobRanks();
  std::string names;
  for (const auto& [name, value] : fingerprint) names += name + "\n";
  CheckAlike(ranks, "what the job is made of", names);
  for (const auto& [name, value] : fingerprint) {
    // Weight files are compared as those of the model: here they have their times.
    if (!name.starts_with(kWeightFileKey)) CheckAlike(ranks, name, value);
  }
}

std::vector<RunReport::Compute::Rank> TimesOfRanks(double seconds) {
  Ranks& ranks = JobRanks();
  std::vector<RunReport::Compute::Rank> times;
  if (ranks.count() == 1) return times;
  const std::array<double, 2> own = {seconds, ranks.waited_seconds()};
  ranks.InTurn(std::as_bytes(std::span(own)), [&](int rank, std::span<const std::byte> bytes) {
    std::array<double, 2> shown = {};
    std::ranges::copy(bytes, std::as_writable_bytes(std::span(shown)).begin());
    times.push_back({ranks.host(rank), shown[0], shown[1]});
  });
  return times;
}

std::unique_ptr<PassJob> OpenJob(const QuantizeRequest& request, Fingerprint fingerprint) {
  std::unique_ptr<QuantizeJob> job;
  if (JobRanks().leads()) job = std::make_unique<QuantizeJob>(request, std::move(fingerprint));
  std::string saved = job && job->state() ? RenderRunState(*job->state()) : "";
  JobRanks().Share(saved);
  if (job) return job;
  std::optional<RunState> state;
  if (!saved.empty()) state = ParseRunState(saved, "the state saved by the leader");
  return std::make_unique<FollowingJob>(request, std::move(state));
}

}  // namespace narrow
