#include "io/checkpoint_writer.h"

#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "io/json.h"

namespace narrow {
namespace {

constexpr std::string_view kIndexName = "model.safetensors.index.json";

std::string ShardName(std::size_t number, std::size_t count) {
  if (count == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", number, count);
}

void CheckNames(const std::vector<TensorSpec>& tensors) {
  std::unordered_set<std::string_view> seen;
  for (const TensorSpec& tensor : tensors) {
    if (tensor.name.empty() || tensor.name == "__metadata__") {
      Fail(ErrorCode::kInvalidArgument, "\"{}\" cannot be the name of a tensor", tensor.name);
    }
    static_cast<void>(JsonLiteral(tensor.name));  // refuses what a header cannot hold
    if (!seen.insert(tensor.name).second) {
      Fail(ErrorCode::kInvalidArgument, "two tensors to be written have the name {}", tensor.name);
    }
  }
}

}  // namespace

ShardPlan PlanShards(std::vector<TensorSpec> tensors, int64_t max_shard_bytes) {
  if (max_shard_bytes <= 0) {
    Fail(ErrorCode::kInvalidArgument, "the shard size should be positive, found {}",
         max_shard_bytes);
  }
  CheckNames(tensors);
  ShardPlan plan;
  std::vector<std::vector<TensorSpec>> groups(1);
  int64_t group_bytes = 0;
  for (TensorSpec& tensor : tensors) {
    const int64_t bytes = tensor.bytes();
    if (!groups.back().empty() && bytes > max_shard_bytes - group_bytes) {
      groups.emplace_back();
      group_bytes = 0;
    }
    group_bytes += bytes;
    plan.total_tensor_bytes += bytes;
    groups.back().push_back(std::move(tensor));
  }
  for (std::size_t i = 0; i < groups.size(); ++i) {
    plan.shards.push_back(
        {ShardName(i + 1, groups.size()), BuildSafetensorsLayout(std::move(groups[i]))});
  }
  return plan;
}

struct CheckpointWriter::State {
  struct Tensor {
    std::size_t shard = 0;
    const SafetensorsEntry* entry = nullptr;  // in plan
    int64_t written_bytes = 0;
    bool complete = false;
  };
  struct Shard {
    std::unique_ptr<OutputFile> file;  // while open
    int64_t missing_tensors = 0;
  };

  std::filesystem::path directory;
  ShardPlan plan;
  std::vector<Shard> shards;
  std::map<std::string, Tensor, std::less<>> tensors;
  TrafficMeter traffic;

  Tensor& Find(std::string_view name) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      Fail(ErrorCode::kInternal, "tensor {} is not in the plan of the output", name);
    }
    return found->second;
  }

  OutputFile& Open(std::size_t number) {
    Shard& shard = shards[number];
    if (shard.file == nullptr) {
      const ShardPlan::Shard& planned = plan.shards[number];
      // A run that continues finds the shard with the tensors of the earlier run in it.
      shard.file =
          std::make_unique<OutputFile>(directory / planned.file_name, OutputFile::Contents::kKeep);
      shard.file->Reserve(planned.layout.file_bytes);
      shard.file->WriteAt(0, std::as_bytes(std::span(planned.layout.header)));
    }
    return *shard.file;
  }

  // The shard is there, is this plan's, and reaches as far as the tensor.
  void CheckEarlierRun(const Tensor& tensor) {
    const ShardPlan::Shard& planned = plan.shards[tensor.shard];
    std::string reason = "is not part of this output";
    try {
      const InputFile file(directory / planned.file_name);
      std::string header(planned.layout.header.size(), '\0');
      if (file.size() >= tensor.entry->end) {
        file.ReadAt(0, std::as_writable_bytes(std::span(header)));
        if (header == planned.layout.header) return;
      }
    } catch (const Error& error) {
      if (error.code() == ErrorCode::kIo) throw;
      reason = "is missing";
    }
    Fail(ErrorCode::kCorruptInput,
         "{} {}, though a saved state says that it is written; start over with --resume never",
         (directory / planned.file_name).string(), reason);
  }

  void Complete(Tensor& tensor) {
    tensor.complete = true;
    Shard& shard = shards[tensor.shard];
    if (--shard.missing_tensors > 0 || shard.file == nullptr) return;
    traffic.Measure(0, [&] { shard.file->Close(); });
    shard.file.reset();
  }
};

CheckpointWriter::CheckpointWriter(std::filesystem::path directory, ShardPlan plan)
    : state_(std::make_unique<State>()) {
  state_->directory = std::move(directory);
  state_->plan = std::move(plan);
  for (std::size_t i = 0; i < state_->plan.shards.size(); ++i) {
    const std::vector<SafetensorsEntry>& entries = state_->plan.shards[i].layout.entries;
    state_->shards.push_back({nullptr, static_cast<int64_t>(entries.size())});
    for (const SafetensorsEntry& entry : entries) {
      state_->tensors.emplace(entry.name, State::Tensor{.shard = i, .entry = &entry});
    }
  }
}

CheckpointWriter::~CheckpointWriter() = default;

void CheckpointWriter::Write(std::string_view name, std::span<const std::byte> bytes) {
  const State::Tensor& tensor = state_->Find(name);
  if (static_cast<int64_t>(bytes.size()) != tensor.entry->bytes()) {
    Fail(ErrorCode::kInternal, "tensor {} was planned with {} bytes, {} were given", name,
         tensor.entry->bytes(), bytes.size());
  }
  WritePart(name, 0, bytes);
}

void CheckpointWriter::WritePart(std::string_view name, int64_t offset,
                                 std::span<const std::byte> bytes) {
  State::Tensor& tensor = state_->Find(name);
  const int64_t missing = tensor.entry->bytes() - tensor.written_bytes;
  if (tensor.complete || offset != tensor.written_bytes ||
      static_cast<int64_t>(bytes.size()) > missing) {
    Fail(ErrorCode::kInternal, "tensor {}: {} bytes at {} do not follow the {} of {} written", name,
         bytes.size(), offset, tensor.written_bytes, tensor.entry->bytes());
  }
  state_->traffic.Measure(static_cast<int64_t>(bytes.size()), [&] {
    state_->Open(tensor.shard).WriteAt(tensor.entry->begin + offset, bytes);
  });
  tensor.written_bytes += static_cast<int64_t>(bytes.size());
  if (tensor.written_bytes == tensor.entry->bytes()) state_->Complete(tensor);
}

void CheckpointWriter::Flush() {
  for (State::Shard& shard : state_->shards) {
    if (shard.file != nullptr) state_->traffic.Measure(0, [&] { shard.file->Sync(); });
  }
}

void CheckpointWriter::AssumeWritten(std::string_view name) {
  State::Tensor& tensor = state_->Find(name);
  NARROW_CHECK(!tensor.complete && tensor.written_bytes == 0);
  state_->CheckEarlierRun(tensor);
  state_->Complete(tensor);
}

Traffic CheckpointWriter::traffic() const { return state_->traffic.total(); }

void CheckpointWriter::Finish() {
  for (const auto& [name, tensor] : state_->tensors) {
    if (!tensor.complete) {
      Fail(ErrorCode::kInternal, "tensor {} was never written completely", name);
    }
  }
  if (state_->plan.shards.size() == 1) {
    // A plan without tensors still makes a file.
    if (state_->tensors.empty()) state_->Open(0).Close();
    return;
  }
  std::string index = fmt::format("{{\n  \"metadata\": {{\n    \"total_size\": {}\n  }},\n",
                                  state_->plan.total_tensor_bytes);
  index += "  \"weight_map\": {";
  std::string_view separator = "\n";
  for (const auto& [name, tensor] : state_->tensors) {
    index += fmt::format("{}    {}: \"{}\"", separator, JsonLiteral(name),
                         state_->plan.shards[tensor.shard].file_name);
    separator = ",\n";
  }
  index += "\n  }\n}\n";
  WriteFileAtomically(state_->directory / kIndexName, index);
}

}  // namespace narrow
