#include "pipeline/quantize_job.h"

#include <utility>

#include "pipeline/run_log.h"

namespace narrow {
namespace {

std::filesystem::path Beside(const std::filesystem::path& output, const char* suffix) {
  std::filesystem::path path = std::filesystem::absolute(output).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.parent_path() / fmt::format(".{}{}", path.filename().string(), suffix);
}

}  // namespace

QuantizeJob::QuantizeJob(const QuantizeRequest& request, Fingerprint fingerprint)
    : request_(request),
      fingerprint_(std::move(fingerprint)),
      work_(request.work_directory.value_or(Beside(request.output_directory, ".narrow-work"))),
      output_(request.output_directory, request.existing,
              Beside(request.output_directory, ".partial")) {
  if (request.resume == QuantizeRequest::Resume::kAuto) {
    output_.KeepOnFailure();  // a state of another job is refused, not thrown away
    state_ = LoadRunState(work_.state_path(), fingerprint_);
    output_.RemoveOnFailure();
  }
  if (!state_) work_.Clear();
  if (state_) kept_ = state_->kept;
  if (!state_ || state_->layers_done == 0) ClearOutput();
}

QuantizeJob::~QuantizeJob() {
  if (!kept_files_) work_.Remove();
}

PassResult QuantizeJob::Run(PassRequest pass, ProgressSink& display) {
  RunLog progress(work_.log_path(), display);
  progress.Line(
      fmt::format("narrow {} {}", request_.version, fmt::join(request_.command_line, " ")));
  pass.work_directory = work_.path();
  pass.save_interval_seconds = request_.save_interval_seconds;
  pass.save = [this](RunState state) {
    state.fingerprint = fingerprint_;
    state.kept = kept_;
    SaveRunState(work_.state_path(), state);
    saved_ = true;
  };
  if (state_) saved_ = true;
  if (state_ && state_->layers_done > 0) {
    pass.resume = &*state_;
    progress.Info(fmt::format("Continuing after layer {} of {}, saved in {}", state_->layers_done,
                              pass.config.layers, work_.path().string()));
  }
  try {
    PassResult result = RunStreamingPass(pass, progress);
    if (saved_) Keep();  // until Commit: what is left to write may fail for a reason that goes away
    return result;
  } catch (const Error& error) {
    progress.Line(error.what());
    Rethrow(error);
  } catch (const std::bad_alloc&) {
    if (saved_) Keep();
    throw;
  }
}

void QuantizeJob::WriteWith(KeptGroups kept) {
  RunState& state = state_.emplace();
  state.fingerprint = fingerprint_;
  state.kept = kept_ = std::move(kept);
  // A process that dies after this line begins with the second pass.
  SaveRunState(work_.state_path(), state);
  saved_ = true;
  ClearOutput();
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
    output_.Commit();
  });
  kept_files_ = false;
}

void QuantizeJob::Rethrow(const Error& error) {
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

void QuantizeJob::ClearOutput() {
  for (const auto& entry : std::filesystem::directory_iterator(output_.path())) {
    std::filesystem::remove_all(entry.path());
  }
}

bool QuantizeJob::CanContinue(ErrorCode code) const {
  return saved_ && (code == ErrorCode::kIo || code == ErrorCode::kInterrupted ||
                    code == ErrorCode::kTerminated || code == ErrorCode::kMemoryBudget ||
                    code == ErrorCode::kNotFound);
}

}  // namespace narrow
