// A GGUF file, or the files that one was split into, as one set of tensors.
#pragma once

#include <deque>
#include <filesystem>
#include <string>
#include <unordered_map>

#include "io/file.h"
#include "io/gguf.h"
#include "tensor/tensor.h"

namespace narrow {

// A tensor and the file it lies in; neither is owned.
struct GgufSource {
  const GgufTensor* tensor = nullptr;
  const InputFile* file = nullptr;  // null for a header that was not read from a file
};

// Open files and their headers. The metadata is that of the first.
class GgufSet {
 public:
  // Opens `path` and, where its metadata says that it is the first of a split set, the others,
  // which lie beside it: NAME-00001-of-00003.gguf and so on. Throws: kNotFound naming a missing
  // part; kCorruptInput when the parts contradict each other; kInvalidArgument for another part
  // than the first; as ReadGguf.
  // Source of the names: llama_split_path of llama.cpp.
  explicit GgufSet(const std::filesystem::path& path);

  const GgufHeader& header() const { return parts_.front().header; }
  std::vector<GgufSource> tensors() const;

 private:
  struct Part {
    explicit Part(const std::filesystem::path& path) : file(path), header(ReadGguf(file)) {}
    InputFile file;
    GgufHeader header;
  };
  void OpenOthers(const std::filesystem::path& path);

  std::deque<Part> parts_;
};

// Tensors by name, those taken crossed out.
class GgufTensors {
 public:
  // Throws: kCorruptInput naming a tensor that is there twice.
  GgufTensors(const std::vector<GgufSource>& tensors, std::string what);

  const std::string& what() const { return what_; }  // the file, for messages
  bool Has(const std::string& name) const { return by_name_.contains(name); }
  // Null when there is none.
  const GgufTensor* Find(const std::string& name) const;

  // Throws: kCorruptInput naming the tensor when it is missing or has another shape; kUnsupported
  // for a type that cannot be decoded.
  GgufSource Take(const std::string& name, const Shape& shape);

  // Throws kUnsupported naming one that was not taken.
  void ExpectNone() const;

 private:
  std::unordered_map<std::string, GgufSource> by_name_;
  std::string what_;
};

}  // namespace narrow
