#include "inspection/inventory.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "io/checkpoint_reader.h"
#include "io/file.h"
#include "tensor/scalar_types.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxScaleElements = 16;

template <typename T>
T Load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

std::vector<float> ReadScale(const ByteSource& file, const SafetensorsEntry& entry) {
  const int64_t element_bytes = ElementBytes(entry.dtype);
  const int64_t count = entry.bytes() / element_bytes;
  if (count > kMaxScaleElements || !Info(entry.dtype).floating) return {};
  std::vector<std::byte> bytes(static_cast<std::size_t>(entry.bytes()));
  file.ReadAt(entry.begin, bytes);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) {
    const std::byte* element = bytes.data() + i * element_bytes;
    switch (entry.dtype) {
      case Dtype::kF32:
        values.push_back(Load<float>(element));
        break;
      case Dtype::kF64:
        values.push_back(static_cast<float>(Load<double>(element)));
        break;
      case Dtype::kBF16:
        values.push_back(ToFloat(Load<Bfloat16>(element)));
        break;
      case Dtype::kF16:
        values.push_back(ToFloat(Load<Float16>(element)));
        break;
      case Dtype::kF8E4M3:
        values.push_back(ToFloat(Load<Float8E4M3>(element)));
        break;
      default:
        return {};
    }
  }
  return values;
}

void Add(const ByteSource& file, const SafetensorsEntry& entry, Inventory& inventory) {
  InspectedTensor tensor{.name = entry.name,
                         .dtype = entry.dtype,
                         .shape = entry.shape,
                         .bytes = entry.bytes(),
                         .file = file.path().filename().string(),
                         .scale = {},
                         .begin = entry.begin};
  if (IsScaleName(entry.name)) tensor.scale = ReadScale(file, entry);
  inventory.tensors.push_back(std::move(tensor));
}

std::set<fs::path> WeightFiles(const fs::path& directory) {
  std::set<fs::path> files;
  std::error_code error;
  fs::directory_iterator entries(directory, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    if (entries->path().extension() == ".safetensors") files.insert(entries->path());
  }
  if (error) {
    Fail(ErrorCode::kIo, "{}: cannot be listed: {}", directory.string(), error.message());
  }
  return files;
}

// The checkpoint as a whole is damaged: lists file by file what can be read.
void ReadFileByFile(const fs::path& directory, const std::string& damage, Inventory& inventory,
                    Findings& findings) {
  findings.Error("damaged files", damage);
  for (const fs::path& path : WeightFiles(directory)) {
    ++inventory.files;
    try {
      const InputFile file(path);
      for (const SafetensorsEntry& entry : ReadSafetensorsHeader(file).entries) {
        Add(file, entry, inventory);
      }
    } catch (const Error& error) {
      if (error.what() != damage) findings.Error("damaged files", error.what());
    }
  }
}

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

bool TiedHeadDiffers(const CheckpointReader& reader) {
  const auto tied = reader.config().find("tie_word_embeddings");
  if (tied == reader.config().end() || *tied != Json(true)) return false;
  if (reader.Find(kHead) == nullptr || reader.Find(kEmbedding) == nullptr) return false;
  return !reader.SameContents(kHead, kEmbedding);
}

// What index and files disagree on, beyond what keeps the checkpoint from being read.
void CheckIndex(const CheckpointReader& reader, Findings& findings) {
  for (const std::string& remark : reader.remarks()) findings.Warning("remarks", remark);
  for (const auto& location : reader.tensors()) {
    if (location.listed) continue;
    findings.Warning("tensors that the index does not list",
                     fmt::format("tensor {} of {} is not in the index; vLLM reads it all the same",
                                 Quoted(location.entry.name),
                                 Quoted(location.file->path().filename().string())));
  }
  for (const auto& [tensor, file] : reader.absent()) {
    findings.Warning("tensors that no file has",
                     fmt::format("the index places tensor {} in {}, which has no such tensor",
                                 Quoted(tensor), Quoted(file)));
  }
}

// transformers writes the sum of all tensor bytes into the index, and reads "metadata".
void CheckTotalSize(const fs::path& directory, const Inventory& inventory, Findings& findings) {
  const fs::path path = directory / "model.safetensors.index.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return;
  try {
    const Json index = ReadJsonFile(path.string());
    const auto metadata = index.find("metadata");
    if (metadata == index.end() || !metadata->is_object()) {
      findings.Warning(
          "sizes",
          "the index has no object \"metadata\", without which transformers 5 does not "
          "load it");
      return;
    }
    const auto size = metadata->find("total_size");
    if (size == metadata->end()) return;
    const std::optional<double> total =
        size->is_number() ? std::optional(size->get<double>()) : std::nullopt;
    int64_t bytes = 0;
    for (const InspectedTensor& tensor : inventory.tensors) bytes += tensor.bytes;
    if (total != static_cast<double>(bytes)) {
      findings.Warning(
          "sizes", fmt::format("the index says total_size {}, the tensors have {} bytes",
                               total ? fmt::format("{:.0f}", *total) : size->type_name(), bytes));
    }
  } catch (const Error& error) {
    findings.Error("damaged files", error.what());
  }
}

}  // namespace

Inventory ReadInventory(const fs::path& directory, Findings& findings) {
  Inventory inventory;
  try {
    const CheckpointReader reader(directory);
    inventory.config = reader.config();
    inventory.files = static_cast<int64_t>(reader.files().size());
    for (const CheckpointReader::TensorLocation& location : reader.tensors()) {
      Add(*location.file, location.entry, inventory);
    }
    inventory.tied_head_differs = TiedHeadDiffers(reader);
    CheckIndex(reader, findings);
    CheckTotalSize(directory, inventory, findings);
  } catch (const Error& error) {
    std::error_code ignored;
    if (!fs::exists(directory / "config.json", ignored) || WeightFiles(directory).empty()) throw;
    inventory = {};
    inventory.config = ReadJsonFile((directory / "config.json").string());
    if (!inventory.config.is_object()) throw;
    ReadFileByFile(directory, error.what(), inventory, findings);
  }
  std::sort(inventory.tensors.begin(), inventory.tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  for (std::size_t i = 0; i < inventory.tensors.size(); ++i) {
    inventory.index.emplace(inventory.tensors[i].name, i);
  }
  return inventory;
}

}  // namespace narrow
