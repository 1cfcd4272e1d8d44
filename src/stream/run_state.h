// What a run leaves in its work directory after a layer, so that the same command can continue.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint_reader.h"
#include "io/directory_lock.h"
#include "io/file.h"
#include "io/json.h"
#include "quantization/kept_groups.h"
#include "quantization/layer_quantizer.h"

namespace narrow {

// Everything that decides the bytes of the result, as named text: program version, flags, config,
// weight files, token ids. Two runs with equal fingerprints compute the same.
using Fingerprint = std::map<std::string, std::string>;

// Adds the 64-bit FNV-1a hash of a byte string under `name`. Guards against accidents, not forgery.
void AddHash(Fingerprint& fingerprint, const std::string& name, std::span<const std::byte> bytes);

// Adds what tells one version of the weight files from another.
void AddFiles(Fingerprint& fingerprint, const CheckpointReader& checkpoint);
// What their names begin with.
inline const std::string kWeightFileKey = "weight file ";

struct RunState {
  Fingerprint fingerprint;
  std::string job;  // StagedDirectory::job() of the output that the layers done are in
  int64_t layers_done = 0;
  int64_t tensors_done = 0;  // of a job that goes from tensor to tensor
  // What the measuring pass chose, when there is one and it is over.
  std::optional<KeptGroups> kept;
  std::vector<LayerFacts> layers;                 // of the layers done
  std::map<std::string, int> hidden_generations;  // by stream: which of its two files is valid
  double calibration_seconds = 0;
  double quantization_seconds = 0;
  double evaluation_seconds = 0;
  int64_t calibration_flops = 0;
  int64_t evaluation_flops = 0;
};

std::string RenderRunState(const RunState& state);
// Replaces the state atomically. Throws: kIo.
void SaveRunState(const std::filesystem::path& path, const RunState& state);

// The state that `text` holds. Throws: kCorruptInput for a damaged one, saying how to start over;
// kUnsupported for that of another version.
RunState ParseRunState(std::string_view text, const std::string& what);

// Nothing when there is no state. Throws: kCorruptInput for a damaged one, saying how to start
// over, and kInvalidArgument naming the first difference when it was made by another job.
std::optional<RunState> LoadRunState(const std::filesystem::path& path,
                                     const Fingerprint& fingerprint);

// The directory of a run's state, hidden states and log; held by one process at a time. What else
// lies there is left alone.
class WorkDirectory {
 public:
  // In a directory that the user names, files called like those of a run are not this program's
  // unless its lock file, or a readable state, says so.
  enum class Named { kByUser, kByProgram };
  // Makes the directory if needed, with missing parents, and locks it. Throws: kIo;
  // kInvalidArgument when another process holds it, or a file of the user's is in the way.
  WorkDirectory(const std::filesystem::path& path, Named named);
  ~WorkDirectory();
  WorkDirectory(const WorkDirectory&) = delete;
  WorkDirectory& operator=(const WorkDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path log_path() const { return path_ / "narrow.log"; }
  std::filesystem::path state_path() const { return path_ / "state.json"; }
  // Removes the files of a run: state, hidden states, log. Throws: kInvalidArgument when the state
  // is a file of the user's.
  void Clear();
  // Clear(), and the directory itself if a run made it and nothing else is in it.
  void Remove() noexcept;
  // Leaves everything for a later run.
  void Keep() { lock_->Keep(); }

 private:
  void Open(Named named);
  bool IsOwnName(const std::string& name) const;
  void CheckForeign(Named named);

  std::filesystem::path path_;
  std::filesystem::path made_;  // the topmost directory that was made for it
  std::optional<DirectoryLock> lock_;
  bool foreign_state_ = false;
};

}  // namespace narrow
