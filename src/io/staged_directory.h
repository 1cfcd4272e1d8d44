// An output directory that appears complete or not at all.
#pragma once

#include <filesystem>

namespace narrow {

// Collects files in a hidden sibling of the final directory (".<name>.partial-<pid>") and renames
// it into place in Commit(). Without Commit() the destructor removes everything. Thread-compatible.
class StagedDirectory {
 public:
  // Throws: kInvalidArgument when `final_path` exists and `overwrite` is false, or is not a
  // directory that may be replaced; kIo when the staging directory cannot be made.
  enum class Existing { kRefuse, kReplace };
  StagedDirectory(const std::filesystem::path& final_path, Existing existing);
  // The same, in a staging directory of the caller's choice on the same file system, which may hold
  // files of an earlier run that is being continued; it is made when it does not exist.
  StagedDirectory(const std::filesystem::path& final_path, Existing existing,
                  std::filesystem::path staging_path);
  ~StagedDirectory();
  StagedDirectory(const StagedDirectory&) = delete;
  StagedDirectory& operator=(const StagedDirectory&) = delete;

  // What the constructors check of the final path, for callers that want to know before other work.
  static void CheckFinalPath(const std::filesystem::path& final_path, Existing existing);

  // Where to write files until Commit().
  const std::filesystem::path& path() const { return staging_path_; }
  const std::filesystem::path& final_path() const { return final_path_; }

  // Leaves the staging directory where it is when Commit() is never called, for a later run.
  void KeepOnFailure() { keep_ = true; }
  void RemoveOnFailure() { keep_ = false; }

  // Makes all files durable (fsync of files and directory) and renames; an existing directory that
  // may be replaced is moved aside first and removed last. Throws: kIo.
  void Commit();

 private:
  std::filesystem::path final_path_;
  std::filesystem::path staging_path_;
  bool replace_ = false;
  bool keep_ = false;
  bool committed_ = false;
};

}  // namespace narrow
