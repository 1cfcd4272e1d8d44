// The directories of a quantization that can be continued after its process died.
#pragma once

#include <functional>
#include <optional>

#include "base/error.h"
#include "base/progress.h"
#include "io/staged_directory.h"
#include "jobs/quantize.h"
#include "jobs/run_log.h"
#include "stream/run_state.h"
#include "stream/streaming_pass.h"

namespace narrow {

// A job takes one pass, or, when groups are to be kept, one that measures and one that writes; what
// is kept is then part of the saved state.
class PassJob {
 public:
  virtual ~PassJob() = default;

  // Where the output is built.
  virtual std::filesystem::path output_path() const = 0;
  // The choice; nothing while it has not been made.
  virtual const std::optional<KeptGroups>& kept() const = 0;
  // Runs a pass, or the rest of it. The arguments are those of the pass that the state is of.
  virtual PassResult Run(PassRequest pass, ProgressSink& display) = 0;
  // The measuring pass is over: from now on the job is the pass that writes, from the beginning,
  // with this choice.
  virtual void WriteWith(KeptGroups kept) = 0;
  // There is nothing to continue with: what was saved goes with the object.
  virtual void Abandon() = 0;
  // Does what is left to do after a pass; an error says how to continue, where that is possible.
  virtual void Attempt(const std::function<void()>& work) = 0;
  // The same, and puts the output in place, with its marker.
  virtual void Conclude(const std::function<void()>& write) = 0;
};

// One that lies on the disk.
class QuantizeJob final : public PassJob {
 public:
  // Takes over what an interrupted run of the same job left, or removes it. Throws: as
  // LoadRunState, WorkDirectory and StagedDirectory; kCorruptInput when the output is not the one
  // that the saved state is of. `request` outlives the object.
  QuantizeJob(const QuantizeRequest& request, Fingerprint fingerprint);
  ~QuantizeJob() override;
  QuantizeJob(const QuantizeJob&) = delete;
  QuantizeJob& operator=(const QuantizeJob&) = delete;

  StagedDirectory& output() { return output_; }
  // To continue from.
  const std::optional<RunState>& state() const { return state_; }
  std::filesystem::path output_path() const override { return output_.path(); }
  const std::optional<KeptGroups>& kept() const override { return kept_; }

  PassResult Run(PassRequest pass, ProgressSink& display) override;
  // Runs a job that goes from tensor to tensor, or the rest of it: `work` begins behind the first
  // `done` and calls `save` with how many are on the disk.
  using TensorWork = std::function<void(int64_t done, const std::function<void(int64_t)>& save,
                                        ProgressSink& progress)>;
  void RunTensors(const TensorWork& work, ProgressSink& display);
  void WriteWith(KeptGroups kept) override;
  void Abandon() override;
  void Attempt(const std::function<void()>& work) override;
  void Conclude(const std::function<void()>& write) override;

  // Removes the state of a run that died after its output was in place. Changes nothing else.
  static void RemoveFinished(const QuantizeRequest& request);

 private:
  // Says of a cause that goes away how to go on.
  [[noreturn]] void Rethrow(const Error& error);
  void Keep();
  // Does the work with the log open; what was saved stays when it can be continued.
  void Guard(ProgressSink& display, const std::function<void(RunLog&)>& work);
  void Save(RunState state);
  // The state to continue from; nothing when there is none, or its output is finished.
  std::optional<RunState> Load() const;
  // Damaged input stays damaged; a full disk or a signal goes away.
  bool CanContinue(ErrorCode code) const;

  const QuantizeRequest& request_;
  Fingerprint fingerprint_;
  WorkDirectory work_;
  StagedDirectory output_;
  std::optional<RunState> state_;  // to continue from
  std::optional<KeptGroups> kept_;
  bool saved_ = false;
  bool resuming_ = false;  // what is saved has not been taken over yet: a damaged file stays
  bool kept_files_ = false;
};

}  // namespace narrow
