// Experts in both layouts: a tensor for each linear of each expert, and one for those of all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "io/json.h"
#include "io/scratch_directory.h"
#include "model/model_source.h"
#include "model/stored_layer.h"
#include "tests/shared_data.h"
#include "tests/support/command.h"
#include "tests/support/test_names.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

using Bytes = std::vector<std::byte>;

// The tensors of a checkpoint, by name.
struct Tensors {
  std::map<std::string, std::pair<Shape, Bytes>> all;

  std::string File() const {
    Json header = Json::object();
    std::string data;
    for (const auto& [name, tensor] : all) {
      const auto& [shape, bytes] = tensor;
      header[name] = {{"dtype", "BF16"},
                      {"shape", shape},
                      {"data_offsets", {data.size(), data.size() + bytes.size()}}};
      data.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    return SafetensorsFile(header.dump(), data);
  }

  // Row r of a linear, wherever it lies: visit(element of the tensor) for each of its columns.
  Bytes& Of(const std::string& name, const Shape& shape) {
    auto& [known, bytes] = all[name];
    int64_t elements = 1;
    for (const int64_t size : known = shape) elements *= size;
    bytes.resize(static_cast<std::size_t>(2 * elements));
    return bytes;
  }

  void Put(const LinearSpec& linear, const Bytes& rows) {
    Bytes& to = linear.part ? Of(linear.part->tensor, PartShape(*linear.part, linear.columns))
                            : Of(linear.weight(), {linear.rows, linear.columns});
    for (int64_t r = 0; r < linear.rows; ++r) {
      for (int64_t c = 0; c < linear.columns; ++c) {
        const auto from = static_cast<std::size_t>(2 * (r * linear.columns + c));
        const auto at = static_cast<std::size_t>(2 * ElementOf(linear, r, c));
        std::copy_n(&rows[from], 2, &to[at]);
      }
    }
  }

  static int64_t ElementOf(const LinearSpec& linear, int64_t r, int64_t c) {
    if (!linear.part) return r * linear.columns + c;
    const TensorPart& part = *linear.part;
    const int64_t row = part.first_row + r * part.row_step;
    const int64_t within = part.transposed ? c * part.rows + row : row * linear.columns + c;
    return part.expert * part.rows * linear.columns + within;
  }
};

class ExpertLayouts : public testing::TestWithParam<const char*> {};

TEST_P(ExpertLayouts, HaveTheSameLosses) {
  const std::string directory = SharedPath(fmt::format("golden/families/tiny-{}", GetParam()));
  if (directory.empty()) GTEST_SKIP() << "the shared golden data is not there";
  const ModelSource source = OpenModel(directory, WeightState::kOriginal);
  using Storage = ExpertsConfig::Storage;
  DecoderConfig other = source.config;
  other.experts.storage =
      source.config.experts.storage == Storage::kEach ? Storage::kStacked : Storage::kEach;
  Tensors tensors;
  for (const auto& tensor : source.checkpoint->tensors()) {
    Bytes& bytes = tensors.Of(tensor.entry.name, tensor.entry.shape);
    source.checkpoint->Read(tensor, bytes);
  }
  for (int64_t i = 0; i < source.config.layers; ++i) {
    const LayerSpec before = source.family->layer(source.config, i);
    if (!before.experts) continue;
    const LayerSpec after = source.family->layer(other, i);
    for (std::size_t l = 0; l < before.experts->linears.size(); ++l) {
      const LinearSpec& linear = before.experts->linears[l];
      AlignedBuffer<std::byte> scratch;
      const auto rows = StoredMatrix(*source.checkpoint, linear).Rows(0, linear.rows, scratch);
      tensors.all.erase(linear.part ? linear.part->tensor : linear.weight());
      tensors.Put(after.experts->linears[l], {rows.begin(), rows.end()});
    }
  }
  const ScratchDirectory scratch;
  const std::filesystem::path rewritten = scratch.path() / "rewritten";
  std::filesystem::create_directory(rewritten);
  for (const char* file : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    std::filesystem::copy_file(std::filesystem::path(directory) / file, rewritten / file);
  }
  scratch.Put("rewritten/model.safetensors", tensors.File());
  const Json tokens = ReadJsonFile(directory + "/reference.json")["tokens"];
  std::vector<Json> losses;
  for (const std::string& model : {directory, rewritten.string()}) {
    const std::string json = (scratch.path() / "e.json").string();
    const CommandResult result = EvaluateIds(model, tokens, scratch, json);
    ASSERT_EQ(result.status, 0) << result.error;
    losses.push_back(ReadJsonFile(json)["window_nll"]);
  }
  EXPECT_EQ(losses[0], losses[1]);
}

INSTANTIATE_TEST_SUITE_P(Golden, ExpertLayouts,
                         testing::Values("qwen3-moe", "qwen2-moe", "olmoe", "mixtral", "minimax-m2",
                                         "glm4-moe", "granitemoe", "llama4"),
                         NameOfModelTest);

}  // namespace
}  // namespace narrow
