// Which files a Hugging Face checkpoint consists of, and how they are opened: all that depends on
// where it lies.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "io/byte_source.h"
#include "io/json.h"

namespace narrow {

inline constexpr std::string_view kIndexName = "model.safetensors.index.json";

// The file of each tensor, by name, as a model.safetensors.index.json says.
using WeightMap = std::map<std::string, std::string>;

// Throws: kCorruptInput for wrong types, no tensors and names that leave the directory;
// kUnsupported for files of another type.
WeightMap ParseWeightMap(const Json& index, const std::string& what);

// A checkpoint before its weight files are opened.
struct CheckpointFiles {
  std::filesystem::path directory;  // names it in messages
  Json config;                      // config.json, an object
  std::optional<WeightMap> index;   // nothing: one file holds everything
  std::set<std::string> weights;    // names of the weight files
  // Opens one of them. Throws as the place where they lie does, naming the file.
  std::function<std::unique_ptr<ByteSource>(const std::string& name)> open;
  // What lies there and is not read although another program might: a sentence each.
  std::vector<std::string> remarks;
};

// Those of a directory of this machine. Weight files: what model.safetensors.index.json names if it
// is there, else model.safetensors, else the only *.safetensors file, adapters aside. Throws:
// kNotFound (directory, config, weights), kCorruptInput (config, index), kUnsupported (as
// ParseWeightMap). `open` throws kNotFound for a file that the index names and is not there.
CheckpointFiles FindCheckpointFiles(const std::filesystem::path& directory);

}  // namespace narrow
