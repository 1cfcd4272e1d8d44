// A Hugging Face checkpoint: config.json, one or many safetensors files, their index.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/byte_source.h"
#include "io/checkpoint_files.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/traffic.h"

namespace narrow {

// Opens the weight files, reads every header, and checks the index against the files. The index
// decides which files are read, and which of several copies of a tensor; a tensor of these files
// that it does not list is there like the others, marked; every known reader would take it. Owns
// the sources. Thread-safe after construction.
class CheckpointReader {
 public:
  // Throws: as FindCheckpointFiles.
  explicit CheckpointReader(const std::filesystem::path& directory);
  // Throws: as `files.open` and ByteSource; kCorruptInput (headers; an index that places a tensor
  // in one file that is in another; a tensor in two files of which the index lists neither).
  explicit CheckpointReader(CheckpointFiles files);

  const std::filesystem::path& directory() const { return directory_; }
  const Json& config() const { return config_; }

  struct TensorLocation {
    const ByteSource* file = nullptr;  // of the reader
    SafetensorsEntry entry;
    bool listed = true;  // by the index, where there is one
  };
  // All tensors, ordered by name.
  const std::vector<TensorLocation>& tensors() const { return tensors_; }
  // Null when the checkpoint has no such tensor.
  const TensorLocation* Find(std::string_view name) const;
  // Throws: kCorruptInput naming the tensor, the checkpoint and the file the index places it in.
  const TensorLocation& Get(std::string_view name) const;

  // Tensors that the index lists and no file has, with the file it places them in.
  const std::map<std::string, std::string>& absent() const { return absent_; }
  // What lies there and is not read although another program might: a sentence each.
  const std::vector<std::string>& remarks() const { return remarks_; }

  // From now on the tensor `stored` goes by the name `name`. REQUIRES: there is one `stored`, and
  // no `name`. Not thread-safe; invalidates what Find and Get returned.
  void Rename(const std::string& stored, const std::string& name);

  // Copies the tensor's bytes. Throws: as ByteSource::ReadAt. REQUIRES: bytes.size() ==
  // location.entry.bytes().
  void Read(const TensorLocation& location, std::span<std::byte> bytes) const;
  // Copies bytes [offset, offset + bytes.size()) of the tensor (for slices of rows).
  void ReadPart(const TensorLocation& location, int64_t offset, std::span<std::byte> bytes) const;

  // Whether two tensors have the same type, shape and bytes. Reads both up to the first difference.
  // REQUIRES: there are such tensors.
  bool SameContents(std::string_view a, std::string_view b) const;

  // Everything Read and ReadPart read so far.
  Traffic traffic() const { return traffic_->total(); }

  // Throws: kCorruptInput when a weight file was changed since the checkpoint was opened.
  void CheckUnchanged() const;

  struct FileFacts {
    std::string name;  // relative to the directory
    int64_t bytes = 0;
    int64_t modified_ns = 0;
  };
  // The weight files, in order of name.
  std::vector<FileFacts> files() const;

 private:
  class Loader;
  void SortTensors();

  std::filesystem::path directory_;
  Json config_;
  std::vector<std::unique_ptr<ByteSource>> files_;
  std::vector<TensorLocation> tensors_;
  std::unordered_map<std::string, std::size_t> index_;  // name -> position in tensors_
  std::map<std::string, std::string> absent_;
  std::vector<std::string> remarks_;
  std::unique_ptr<TrafficMeter> traffic_ = std::make_unique<TrafficMeter>();
};

}  // namespace narrow
