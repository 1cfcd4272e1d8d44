// What a checkpoint directory holds, whole, for comparison.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace narrow {

struct StoredTensor {
  Dtype dtype = Dtype::kF32;
  Shape shape;
  std::string bytes;

  // The elements. REQUIRES: F32, F16 or BF16.
  std::vector<float> Floats() const;
  // The only element. REQUIRES: a scalar of such a type.
  float Scalar() const;
};

std::map<std::string, StoredTensor> ReadTensors(const std::filesystem::path& directory);

// Writes them as one file of the existing directory.
void WriteTensors(const std::filesystem::path& directory,
                  const std::map<std::string, StoredTensor>& tensors);

// Copies the files of a checkpoint that lies in a folder of others to the existing directory `to`.
// What is a symbolic link there, or was copied as the text of one, is copied as what it leads to.
void CopyCheckpoint(const std::filesystem::path& from, const std::filesystem::path& to);

// A golden's folder as the name of a test: "ragged/ct-mxfp4" is ragged_ct_mxfp4.
std::string FolderAsName(std::string folder);

// Names of the entries of a directory, hidden ones included.
std::set<std::string> Names(const std::filesystem::path& directory);

}  // namespace narrow
