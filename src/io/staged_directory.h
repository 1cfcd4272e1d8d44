// An output directory that appears complete or not at all.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/directory_lock.h"
#include "io/output_marker.h"
#include "io/paths.h"

namespace narrow {

// Collects files in a hidden sibling of the final directory (".<name>.partial", known as this
// program's by the lock file in it) and renames it into place in Commit(). Without Commit() the
// destructor removes everything. What a run that died left there is taken over. An output that is
// there already is replaced only when it is empty or holds nothing but what its marker says this
// program wrote, and stays until the new one is complete. Thread-compatible.
class StagedDirectory {
 public:
  enum class Existing { kRefuse, kReplace };
  // What to do with the leftovers of a run whose state says that it can be continued.
  enum class Continuable { kRefuse, kAbandon };

  // Starts with an empty directory; missing parents are made. Throws: kInvalidArgument when
  // `final_path` exists and may not be replaced, when another run makes it now, and when one that
  // can be continued has begun it; kIo when the staging directory cannot be made.
  StagedDirectory(const std::filesystem::path& final_path, Existing existing);
  // For a run that leaves its state in the file `state`, and may continue with what lies in the
  // staging directory: call StartOver() if it does not. Of other states' runs `others` says.
  StagedDirectory(const std::filesystem::path& final_path, Existing existing,
                  std::filesystem::path state, Continuable others);
  ~StagedDirectory();
  StagedDirectory(const StagedDirectory&) = delete;
  StagedDirectory& operator=(const StagedDirectory&) = delete;

  // What the constructors check of the final path, for callers that want to know before other work.
  static void CheckFinalPath(const std::filesystem::path& final_path, Existing existing);
  // Where files are collected for a final path, beside it.
  static std::filesystem::path StagingPath(const std::filesystem::path& final_path);

  // Where to write files until Commit().
  const std::filesystem::path& path() const { return staging_path_; }
  const std::filesystem::path& final_path() const { return final_path_; }
  // The run that the files are of, by a name that no other has; empty: of none that is known.
  const std::string& job() const { return job_; }
  // The state of the run whose leftovers were taken over, if it is another one than ours.
  const std::filesystem::path& abandoned_state() const { return abandoned_state_; }

  // Removes what was taken over; the files from now on are of a new run.
  void StartOver();

  // Leaves the staging directory where it is when Commit() is never called, for a later run.
  void KeepOnFailure() { keep_ = true; }
  void RemoveOnFailure() { keep_ = false; }

  // Adds the marker (whose job and files are filled in), makes all files durable (fsync of files
  // and directory) and renames; what is replaced is removed last. Throws: kIo; kInvalidArgument
  // when the old output came to hold what this program did not write.
  void Commit(OutputMarker marker);

 private:
  void TakeStaging();
  void CheckOwnLeftover();
  void Recover();
  void CheckContinuable(Continuable others);
  void WriteNote();
  void PutInPlace();
  void Replace();

  std::filesystem::path final_path_;
  std::filesystem::path staging_path_;
  std::filesystem::path state_;
  std::filesystem::path abandoned_state_;
  std::filesystem::path made_parent_;  // the topmost directory that was made for the output
  std::optional<DirectoryLock> lock_;
  std::string job_;
  Existing existing_;
  bool keep_ = false;
  bool committed_ = false;
};

// Every place that the making of an output writes to, for CheckApart; `name` is the user's for it.
std::vector<NamedPath> OutputPaths(const std::string& name,
                                   const std::filesystem::path& final_path);

}  // namespace narrow
