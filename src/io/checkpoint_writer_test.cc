#include "io/checkpoint_writer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "io/scratch_directory.h"

namespace narrow {
namespace {

// Bytes that differ between tensors and positions.
std::string Pattern(std::size_t seed, int64_t bytes) {
  std::string pattern(static_cast<std::size_t>(bytes), '\0');
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    pattern[i] = static_cast<char>((i * 37 + seed * 101 + i / 251) & 0xFF);
  }
  return pattern;
}

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::vector<TensorSpec> EveryDtype() {
  std::vector<TensorSpec> tensors;
  for (int i = 0; i <= static_cast<int>(Dtype::kF64); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    const std::string name(Name(dtype));
    tensors.push_back({name + ".matrix", dtype, {7, 13}});
    tensors.push_back({name + ".scalar", dtype, {}});
    tensors.push_back({name + ".empty", dtype, {0, 4}});
  }
  return tensors;
}

void WriteAll(const ScratchDirectory& scratch, int64_t max_shard_bytes) {
  scratch.Put("config.json", "{}");
  const std::vector<TensorSpec> tensors = EveryDtype();
  CheckpointWriter writer(scratch.path(), PlanShards(tensors, max_shard_bytes));
  for (std::size_t i = tensors.size(); i-- > 0;) {  // backwards: any order will do
    const std::string bytes = Pattern(i, tensors[i].bytes());
    if (i % 2 == 0) {
      writer.Write(tensors[i].name, Bytes(bytes));
    } else {
      const auto half = static_cast<std::size_t>(bytes.size() / 2);
      writer.WritePart(tensors[i].name, 0, Bytes(bytes).first(half));
      if (!bytes.empty()) {
        writer.WritePart(tensors[i].name, static_cast<int64_t>(half), Bytes(bytes).subspan(half));
      }
    }
  }
  writer.Finish();
}

void ExpectAll(const ScratchDirectory& scratch) {
  const std::vector<TensorSpec> tensors = EveryDtype();
  const CheckpointReader reader(scratch.path());
  ASSERT_EQ(reader.tensors().size(), tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& location = reader.Get(tensors[i].name);
    EXPECT_EQ(location.entry.dtype, tensors[i].dtype);
    EXPECT_EQ(location.entry.shape, tensors[i].shape);
    std::string bytes(static_cast<std::size_t>(location.entry.bytes()), '\0');
    reader.Read(location, std::as_writable_bytes(std::span(bytes)));
    EXPECT_EQ(bytes, Pattern(i, tensors[i].bytes())) << tensors[i].name;
    if (bytes.size() > 5) {
      std::string part(3, '\0');
      reader.ReadPart(location, 2, std::as_writable_bytes(std::span(part)));
      EXPECT_EQ(part, bytes.substr(2, 3));
    }
  }
}

TEST(CheckpointWriter, RoundTripInOneFile) {
  const ScratchDirectory scratch;
  WriteAll(scratch, int64_t{1} << 30);
  EXPECT_EQ(scratch.Count(), 2);  // config and weights: no index
  ExpectAll(scratch);
}

TEST(CheckpointWriter, RoundTripInManyFiles) {
  const ScratchDirectory scratch;
  WriteAll(scratch, 500);
  EXPECT_GT(scratch.Count(), 4);
  ExpectAll(scratch);
  const Json index = ReadJsonFile((scratch.path() / "model.safetensors.index.json").string());
  int64_t total = 0;
  for (const TensorSpec& tensor : EveryDtype()) total += tensor.bytes();
  EXPECT_EQ(index["metadata"]["total_size"], Json(total));
  EXPECT_EQ(index["weight_map"].size(), EveryDtype().size());
}

TEST(PlanShards, ClosesAShardBeforeTheLimit) {
  const ShardPlan plan = PlanShards({{"a", Dtype::kU8, {60}},
                                     {"b", Dtype::kU8, {40}},
                                     {"c", Dtype::kU8, {1}},
                                     {"d", Dtype::kU8, {500}},
                                     {"e", Dtype::kU8, {1}}},
                                    100);
  std::string groups;
  for (const ShardPlan::Shard& shard : plan.shards) {
    groups += shard.file_name + ":";
    for (const SafetensorsEntry& entry : shard.layout.entries) groups += entry.name;
    groups += " ";
  }
  EXPECT_EQ(groups,
            "model-00001-of-00004.safetensors:ab model-00002-of-00004.safetensors:c "
            "model-00003-of-00004.safetensors:d model-00004-of-00004.safetensors:e ");
  EXPECT_EQ(plan.total_tensor_bytes, 602);
}

TEST(PlanShards, RefusesBadRequests) {
  const auto refused = [](std::string_view fragment, std::vector<TensorSpec> tensors,
                          int64_t limit) {
    ExpectError(ErrorCode::kInvalidArgument, fragment, [&] { PlanShards(tensors, limit); });
  };
  refused("have the name a", {{"a", Dtype::kU8, {1}}, {"a", Dtype::kU8, {2}}}, 10);
  refused("positive", {}, 0);
  refused("name of a tensor", {{"__metadata__", Dtype::kU8, {1}}}, 10);
  refused("UTF-8", {{"\xFF", Dtype::kU8, {1}}}, 10);
}

TEST(CheckpointWriter, RefusesWhatWasNotPlanned) {
  const ScratchDirectory scratch;
  CheckpointWriter writer(scratch.path(),
                          PlanShards({{"a", Dtype::kU8, {4}}, {"b", Dtype::kU8, {4}}}, 100));
  const auto refused = [](std::string_view fragment, auto action) {
    ExpectError(ErrorCode::kInternal, fragment, action);
  };
  refused("not in the plan", [&] { writer.Write("c", Bytes("1234")); });
  refused("planned with 4 bytes", [&] { writer.Write("a", Bytes("123")); });
  writer.Write("a", Bytes("1234"));
  refused("do not follow", [&] { writer.Write("a", Bytes("1234")); });
  refused("do not follow", [&] { writer.WritePart("b", 2, Bytes("34")); });
  writer.WritePart("b", 0, Bytes("12"));
  refused("do not follow", [&] { writer.WritePart("b", 2, Bytes("345")); });
  refused("b was never written", [&] { writer.Finish(); });
  writer.WritePart("b", 2, Bytes("34"));
  writer.Finish();
}

TEST(CheckpointWriter, AnEmptyPlanMakesAnEmptyFile) {
  const ScratchDirectory scratch;
  scratch.Put("config.json", "{}");
  CheckpointWriter(scratch.path(), PlanShards({}, 100)).Finish();
  EXPECT_TRUE(CheckpointReader(scratch.path()).tensors().empty());
}

}  // namespace
}  // namespace narrow
