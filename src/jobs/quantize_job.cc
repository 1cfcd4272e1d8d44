#include "jobs/quantize_job.h"

#include <utility>

#include "io/output_marker.h"
#include "jobs/run_log.h"
#include "jobs/run_plan.h"

namespace narrow {
namespace {

using Named = WorkDirectory::Named;
using Continuable = StagedDirectory::Continuable;

Named NamedBy(const QuantizeRequest& request) {
  return request.work_directory ? Named::kByUser : Named::kByProgram;
}

Continuable OthersOf(const QuantizeRequest& request) {
  return request.resume == QuantizeRequest::Resume::kNever ? Continuable::kAbandon
                                                           : Continuable::kRefuse;
}

// The job that a finished output is of; empty: none that is known.
std::string FinishedJob(const std::filesystem::path& output) {
  try {
    const std::optional<OutputMarker> marker = ReadOutputMarker(output);
    return marker ? marker->job : "";
  } catch (const Error&) {
    return "";
  }
}

// Whether something of the output is part of the state.
bool HasOutput(const RunState& state) { return state.layers_done > 0 || state.tensors_done > 0; }

}  // namespace

QuantizeJob::QuantizeJob(const QuantizeRequest& request, Fingerprint fingerprint)
    : request_(request),
      fingerprint_(std::move(fingerprint)),
      work_(DirectoriesOf(request).work, NamedBy(request)),
      output_(request.output_directory, request.existing, work_.state_path(), OthersOf(request)) {
  if (request.resume == QuantizeRequest::Resume::kAuto) {
    // A state of another job is refused, not thrown away.
    if (!output_.job().empty()) output_.KeepOnFailure();
    state_ = Load();
    output_.RemoveOnFailure();
  }
  if (!state_) work_.Clear();
  if (state_) kept_ = state_->kept;
  if (!state_ || !HasOutput(*state_)) output_.StartOver();
  const std::filesystem::path abandoned = output_.abandoned_state().parent_path();
  std::error_code error;
  if (abandoned.empty() || !std::filesystem::exists(abandoned / kLockName, error)) return;
  try {
    WorkDirectory(abandoned, Named::kByUser).Remove();
  } catch (const Error&) {  // another run's by now
  }
}

std::optional<RunState> QuantizeJob::Load() const {
  std::optional<RunState> state = LoadRunState(work_.state_path(), fingerprint_);
  if (!state || !HasOutput(*state) || state->job == output_.job()) return state;
  if (state->job == FinishedJob(output_.final_path())) return std::nullopt;
  Fail(ErrorCode::kCorruptInput,
       "{} is missing or of another run than the state saved in {}; start over with --resume never",
       output_.path().string(), work_.path().string());
}

void QuantizeJob::RemoveFinished(const QuantizeRequest& request) {
  const JobDirectories directories = DirectoriesOf(request);
  const std::filesystem::path state = directories.work / "state.json";
  const std::string job = FinishedJob(directories.output);
  std::error_code error;
  if (job.empty() || !std::filesystem::exists(directories.work / kLockName, error)) return;
  try {
    if (ReadJsonFile(state.string()).at("job") != job) return;
    WorkDirectory(directories.work, NamedBy(request)).Remove();
  } catch (const Error&) {  // in use, or no state that can be read: not known to be finished
  } catch (const nlohmann::json::exception&) {
  }
}

QuantizeJob::~QuantizeJob() {
  if (kept_files_) {
    work_.Keep();
  } else {
    work_.Remove();
  }
}

void QuantizeJob::Guard(ProgressSink& display, const std::function<void(RunLog&)>& work) {
  saved_ = state_.has_value();
  resuming_ = state_ && HasOutput(*state_);
  std::optional<RunLog> log;
  Attempt([&] { log.emplace(work_.log_path(), display); });
  RunLog& progress = *log;
  progress.Line(
      fmt::format("narrow {} {}", request_.version, fmt::join(request_.command_line, " ")));
  try {
    work(progress);
    if (saved_) Keep();  // until Commit: what is left to write may fail for a reason that goes away
  } catch (const Error& error) {
    progress.Line(error.what());
    Rethrow(error);
  } catch (const std::bad_alloc&) {
    if (saved_) Keep();
    throw;
  }
}

PassResult QuantizeJob::Run(PassRequest pass, ProgressSink& display) {
  PassResult result;
  Guard(display, [&](RunLog& progress) {
    pass.work_directory = work_.path();
    pass.save_interval_seconds = request_.save_interval_seconds;
    pass.save = [this](RunState state) { Save(std::move(state)); };
    if (resuming_) {
      pass.resume = &*state_;
      pass.resumed = [this] { resuming_ = false; };
      progress.Info(fmt::format("Continuing after layer {} of {}, saved in {}", state_->layers_done,
                                pass.config.layers, work_.path().string()));
    }
    result = RunStreamingPass(pass, progress);
  });
  return result;
}

void QuantizeJob::RunTensors(const TensorWork& work, ProgressSink& display) {
  Guard(display, [&](RunLog& progress) {
    const int64_t done = resuming_ ? state_->tensors_done : 0;
    if (resuming_) {
      progress.Info(
          fmt::format("Continuing after tensor {}, saved in {}", done, work_.path().string()));
    }
    const auto save = [this](int64_t tensors) {
      RunState state;
      state.tensors_done = tensors;
      Save(std::move(state));
      resuming_ = false;
    };
    work(done, save, progress);
  });
}

void QuantizeJob::Save(RunState state) {
  state.fingerprint = fingerprint_;
  state.job = output_.job();
  state.kept = kept_;
  SaveRunState(work_.state_path(), state);
  saved_ = true;
}

void QuantizeJob::WriteWith(KeptGroups kept) {
  RunState& state = state_.emplace();
  state.fingerprint = fingerprint_;
  state.job = output_.job();
  state.kept = kept_ = std::move(kept);
  // A process that dies after this line begins with the second pass.
  SaveRunState(work_.state_path(), state);
  saved_ = true;
  output_.StartOver();
}

void QuantizeJob::Abandon() {
  output_.RemoveOnFailure();
  kept_files_ = false;
}

void QuantizeJob::Attempt(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    Rethrow(error);
  }
}

void QuantizeJob::Conclude(const std::function<void()>& write) {
  Attempt([&] {
    write();
    OutputMarker marker;
    marker.command = "quantize";
    marker.head_basis = request_.head_basis == HeadBasis::kFitted ? "fitted" : "none";
    output_.Commit(std::move(marker));
  });
  kept_files_ = false;
}

void QuantizeJob::Rethrow(const Error& error) {
  if (resuming_) Keep();
  if (!CanContinue(error.code())) throw error;
  Keep();
  throw Error(error.code(),
              fmt::format("{} (finished layers are saved in {}: the same command continues)",
                          error.what(), work_.path().string()));
}

void QuantizeJob::Keep() {
  output_.KeepOnFailure();
  kept_files_ = true;
}

bool QuantizeJob::CanContinue(ErrorCode code) const {
  return saved_ && (code == ErrorCode::kIo || code == ErrorCode::kInterrupted ||
                    code == ErrorCode::kTerminated || code == ErrorCode::kHungUp ||
                    code == ErrorCode::kMemoryBudget || code == ErrorCode::kNotFound);
}

}  // namespace narrow
