// Multimodal models: the language part is quantized, everything else is copied as it is. Against
// transformers (tools/goldens/make_wrappers.py), under the names of several of its versions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "io/checkpoint_reader.h"
#include "io/json.h"
#include "io/scratch_directory.h"
#include "tests/build_paths.h"
#include "tests/support/command.h"

namespace narrow {
namespace {

using testing::DoubleNear;
using testing::Pointwise;

class Wrappers : public testing::TestWithParam<std::string> {
 protected:
  std::string Model() const {
    return NARROW_SOURCE_DIR "/tests/golden/wrappers/" + std::string(GetParam());
  }
  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }

  CommandResult Quantize(const std::vector<std::string>& more) const {
    const std::string texts = PutIds(scratch_, "c.jsonl", reference_["tokens"]);
    std::vector<std::string> words = {"quantize",  "--model_dir", Model(), "--output_dir",
                                      Path("out"), "--dataset",   texts,   "--eval_data",
                                      texts,       "--overwrite"};
    words.insert(words.end(), more.begin(), more.end());
    return RunNarrow(words);
  }

  ScratchDirectory scratch_;
  Json reference_ = ReadJsonFile(Model() + "/reference.json");
};

TEST_P(Wrappers, LossesOfTextMatchTransformers) {
  const CommandResult result = EvaluateIds(Model(), reference_["tokens"], scratch_, Path("e.json"));
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(ReadJsonFile(Path("e.json"))["window_nll"].get<std::vector<double>>(),
              Pointwise(DoubleNear(1e-4), reference_["window_nll"].get<std::vector<double>>()));
}

std::vector<std::byte> Bytes(const CheckpointReader& checkpoint, const std::string& name) {
  const CheckpointReader::TensorLocation& tensor = checkpoint.Get(name);
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.entry.bytes()));
  checkpoint.Read(tensor, bytes);
  return bytes;
}

TEST_P(Wrappers, EverythingElseIsCopiedAndListed) {
  for (const std::string format : {"fp8", "quark"}) {
    std::vector<std::string> words = {"--custom_mode", format};
    // vLLM 0.32 does not load Quark's names of the scales of the cache for a Gemma 3.
    if (format == "fp8" || GetParam() != "gemma3") {
      words.insert(words.end(), {"--kv_cache_dtype", "fp8"});
    }
    const CommandResult result = Quantize(words);
    ASSERT_EQ(result.status, 0) << result.error;
    const CheckpointReader source(Model());
    const CheckpointReader output(Path("out"));
    const Json& quantization = output.config()["quantization_config"];
    const Json& listed = quantization[format == "fp8" ? "ignored_layers" : "exclude"];
    const std::set<std::string> left(listed.begin(), listed.end());
    std::size_t linears = 1;  // the head
    for (const Json& json : reference_["others"]) {
      const std::string name = json.get<std::string>();
      const SafetensorsEntry& entry = output.Get(name).entry;
      EXPECT_EQ(entry.dtype, source.Get(name).entry.dtype) << name;
      EXPECT_EQ(entry.shape, source.Get(name).entry.shape) << name;
      EXPECT_EQ(Bytes(output, name), Bytes(source, name)) << name;
      if (!name.ends_with(".weight") || entry.shape.size() != 2) continue;
      EXPECT_TRUE(left.contains(name.substr(0, name.rfind('.')))) << name;
      ++linears;
    }
    EXPECT_EQ(left.size(), linears);
    std::size_t codes = 0;
    for (const auto& tensor : output.tensors()) codes += tensor.entry.dtype == Dtype::kF8E4M3;
    EXPECT_EQ(codes, 14u);
    const Json inspected = ParseJson(RunNarrow({"inspect", Path("out"), "--json"}).output, "json");
    ASSERT_EQ(inspected["problems"].size(), 1u) << inspected["problems"].dump(1);
    EXPECT_THAT(inspected["problems"][0]["text"].get<std::string>(),
                testing::HasSubstr("there is no tokenizer"));
    const CommandResult deployed =
        EvaluateIds(Path("out"), reference_["tokens"], scratch_, Path("d.json"));
    EXPECT_EQ(deployed.status, 0) << deployed.error;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, Wrappers,
                         testing::Values("gemma3", "llava", "mistral3", "other-llava", "qwen2-5-vl",
                                         "other-qwen2-5-vl", "flat-qwen2-5-vl"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace narrow
