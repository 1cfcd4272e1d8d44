#include "tests/support/stored_tensors.h"

#include <cstring>
#include <span>

#include "base/error.h"
#include "io/checkpoint_reader.h"
#include "io/checkpoint_writer.h"
#include "io/file.h"
#include "tensor/scalar_types.h"

namespace narrow {

std::vector<float> StoredTensor::Floats() const {
  const auto size = static_cast<std::size_t>(ElementBytes(dtype));
  std::vector<float> values;
  for (std::size_t offset = 0; offset < bytes.size(); offset += size) {
    uint16_t half = 0;
    float value = 0;
    if (dtype == Dtype::kF32) {
      std::memcpy(&value, bytes.data() + offset, sizeof value);
    } else {
      NARROW_CHECK(dtype == Dtype::kF16 || dtype == Dtype::kBF16);
      std::memcpy(&half, bytes.data() + offset, sizeof half);
      value = dtype == Dtype::kF16 ? ToFloat(Float16{half}) : ToFloat(Bfloat16{half});
    }
    values.push_back(value);
  }
  return values;
}

float StoredTensor::Scalar() const {
  NARROW_CHECK(shape.empty());
  return Floats().at(0);
}

std::map<std::string, StoredTensor> ReadTensors(const std::filesystem::path& directory) {
  const CheckpointReader reader(directory);
  std::map<std::string, StoredTensor> tensors;
  for (const CheckpointReader::TensorLocation& location : reader.tensors()) {
    StoredTensor& tensor = tensors[location.entry.name];
    tensor.dtype = location.entry.dtype;
    tensor.shape = location.entry.shape;
    tensor.bytes.resize(static_cast<std::size_t>(location.entry.bytes()));
    reader.Read(location, std::as_writable_bytes(std::span(tensor.bytes)));
  }
  return tensors;
}

void WriteTensors(const std::filesystem::path& directory,
                  const std::map<std::string, StoredTensor>& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) specs.push_back({name, tensor.dtype, tensor.shape});
  CheckpointWriter writer(directory, PlanShards(specs, int64_t{1} << 40));
  for (const auto& [name, tensor] : tensors) {
    writer.Write(name, std::as_bytes(std::span(tensor.bytes)));
  }
  writer.Finish();
}

void CopyCheckpoint(const std::filesystem::path& from, const std::filesystem::path& to) {
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    if (!entry.is_regular_file()) continue;
    std::filesystem::path file = std::filesystem::canonical(entry.path());
    while (std::filesystem::file_size(file) < 256) {
      const std::string text = ReadWholeFile(file, 256);
      if (!text.starts_with("../") || text.find('\n') != text.npos) break;
      file = std::filesystem::canonical(file.parent_path() / text);
    }
    std::filesystem::copy_file(file, to / entry.path().filename());
  }
}

std::string FolderAsName(std::string folder) {
  std::ranges::replace_if(
      folder, [](char c) { return c == '-' || c == '/'; }, '_');
  return folder;
}

std::set<std::string> Names(const std::filesystem::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

}  // namespace narrow
