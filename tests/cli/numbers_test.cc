// Numbers that are none, in checkpoints of FP8 and of other types: refused with the name of what is
// wrong, never computed with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "tests/cli/found_checkpoint.h"
#include "tests/support/stored_tensors.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using Tensors = std::vector<TinyTensor>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr const char* kKey = "model.layers.1.self_attn.k_proj";
constexpr const char* kDown = "model.layers.0.mlp.down_proj";
constexpr const char* kAttention = "model.layers.1.self_attn";

std::string FloatBytes(float value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

class Numbers : public FoundCheckpoint {
 protected:
  // The tensors of an FP8 checkpoint made of the tiny model.
  Tensors Quantized() const {
    EXPECT_EQ(Quantize().status, 0);
    Tensors tensors;
    for (const auto& [name, tensor] : ReadTensors(output())) {
      tensors.push_back({name, tensor.dtype, tensor.shape, tensor.bytes});
    }
    return tensors;
  }
  // The original's tensor of that name.
  static TinyTensor Original(const std::string& name) {
    Tensors tensors = TinyTensors({});
    return FindTensor(tensors, name);
  }
  void Write(const std::filesystem::path& directory, const Tensors& tensors) const {
    std::filesystem::remove(directory / "model.safetensors.index.json");
    WriteWeights(directory, tensors, 1);
  }
  // Both commands name `what`; evaluate with the status and before it reads a weight, unless the
  // weight is what is wrong.
  void ExpectRefused(const Tensors& tensors, ErrorCode code, const std::string& what) const {
    Write(output(), tensors);
    const CommandResult evaluated = Evaluate(output());
    EXPECT_EQ(evaluated.status, static_cast<int>(code)) << evaluated.error;
    EXPECT_THAT(evaluated.LastErrorLine(), HasSubstr(what));
    EXPECT_EQ(evaluated.output, "");
    const bool at_the_weight =
        evaluated.LastErrorLine().find(".weight holds NaN") != std::string::npos;
    EXPECT_EQ(evaluated.error.find("Evaluating") != std::string::npos, at_the_weight) << what;
    ExpectFinding(output(), what);
  }
  void ExpectFinding(const std::filesystem::path& directory, const std::string& what) const {
    const CommandResult inspected = Inspect(directory);
    EXPECT_EQ(inspected.status, static_cast<int>(ErrorCode::kCorruptInput)) << what;
    EXPECT_THAT(inspected.output, HasSubstr(what));
  }
};

TEST_F(Numbers, NanCodes) {
  const Tensors good = Quantized();
  EXPECT_EQ(Inspect(output()).status, 0);
  for (const char code : {'\x7F', '\xFF'}) {
    for (const std::string module : {kKey, kDown}) {
      const std::string name = module + ".weight";
      const auto bytes = [&](Tensors& tensors) -> std::string& {
        return FindTensor(tensors, name).bytes;
      };
      Tensors tensors = good;
      for (const std::size_t place : {std::size_t{0}, bytes(tensors).size() - 1}) {
        tensors = good;
        bytes(tensors)[place] = code;
        ExpectRefused(tensors, ErrorCode::kNumeric, name);
      }
      const CommandResult headers = RunNarrow({"inspect", output().string(), "--headers_only"});
      EXPECT_EQ(headers.status, 0) << "the weights are not read";
    }
  }
}

TEST_F(Numbers, ScaleValues) {
  const Tensors good = Quantized();
  for (const std::string& name :
       {std::string(kKey) + ".weight_scale", std::string(kDown) + ".input_scale",
        std::string(kAttention) + ".k_scale", std::string(kAttention) + ".v_scale"}) {
    for (const float value : {kNan, kInfinity, -kInfinity, 0.0f, -0.0f, -1.0f, 1e-40f}) {
      Tensors tensors = good;
      FindTensor(tensors, name).bytes = FloatBytes(value);
      ExpectRefused(tensors, ErrorCode::kNumeric, name);
    }
  }
}

TEST_F(Numbers, ScalesOfAnotherShapeOrType) {
  const Tensors good = Quantized();
  for (const std::string& name :
       {std::string(kKey) + ".weight_scale", std::string(kDown) + ".input_scale",
        std::string(kAttention) + ".k_scale"}) {
    const TinyTensor others[] = {
        {name, Dtype::kF32, {3}, FloatBytes(1.0f) + FloatBytes(1.0f) + FloatBytes(1.0f)},
        {name, Dtype::kF32, {1, 1}, FloatBytes(1.0f)},
        {name, Dtype::kI32, {}, std::string("\1\0\0\0", 4)},
    };
    for (const TinyTensor& other : others) {
      Tensors tensors = good;
      FindTensor(tensors, name) = other;
      ExpectRefused(tensors, ErrorCode::kCorruptInput, name);
    }
    Tensors without = good;
    std::erase_if(without, [&](const TinyTensor& tensor) { return tensor.name == name; });
    Write(output(), without);
    const CommandResult missing = Evaluate(output());
    EXPECT_EQ(missing.status, static_cast<int>(ErrorCode::kCorruptInput));
    EXPECT_THAT(missing.LastErrorLine(), HasSubstr(name.substr(0, name.rfind('.'))));
    EXPECT_EQ(Inspect(output()).status, static_cast<int>(ErrorCode::kCorruptInput));
  }
  // One element in a list is what other tools write.
  Tensors listed = good;
  FindTensor(listed, std::string(kKey) + ".weight_scale").shape = {1};
  Write(output(), listed);
  EXPECT_EQ(Evaluate(output()).status, 0);
  EXPECT_EQ(Inspect(output()).status, 0);
}

// One linear of a group in BF16, whichever it is, with and without its scales.
TEST_F(Numbers, GroupsThatArePartlyFp8) {
  const Tensors good = Quantized();
  for (const std::string module : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                   "mlp.gate_proj", "mlp.up_proj"}) {
    const std::string name = "model.layers.1." + module;
    Tensors tensors = good;
    FindTensor(tensors, name + ".weight") = Original(name + ".weight");
    Write(output(), tensors);
    const CommandResult with_scales = Evaluate(output());
    EXPECT_EQ(with_scales.status, static_cast<int>(ErrorCode::kCorruptInput));
    EXPECT_THAT(with_scales.LastErrorLine(), HasSubstr(name + ".weight_scale"));
    std::erase_if(tensors, [&](const TinyTensor& tensor) {
      return tensor.name.starts_with(name) && tensor.name.ends_with("_scale");
    });
    ExpectRefused(tensors, ErrorCode::kCorruptInput, name);
    // As a source, too.
    const std::string second = (scratch_.path() / "second").string();
    std::filesystem::remove_all(model());
    std::filesystem::copy(output(), model());
    WriteFile(model() / "config.json", TinyConfig({}).dump());
    const CommandResult quantized =
        RunNarrow(QuantizeArguments(model().string(), second, {"--num_calib_data", "4"}));
    EXPECT_EQ(quantized.status, static_cast<int>(ErrorCode::kCorruptInput));
    EXPECT_THAT(quantized.LastErrorLine(), HasSubstr("F8_E4M3"));
  }
}

TEST_F(Numbers, CacheScalesInSomeLayersAlone) {
  Tensors tensors = Quantized();
  std::erase_if(tensors, [&](const TinyTensor& tensor) {
    return tensor.name == std::string(kAttention) + ".k_scale" ||
           tensor.name == std::string(kAttention) + ".v_scale";
  });
  ExpectRefused(tensors, ErrorCode::kCorruptInput, kAttention);
}

// Sources of every type: what quantize refuses, evaluate and inspect refuse, too.
TEST_F(Numbers, NanAndInfinityInWeights) {
  for (const Dtype dtype : {Dtype::kBF16, Dtype::kF16, Dtype::kF32}) {
    for (const char* name :
         {"model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
          "model.layers.1.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"}) {
      Tensors tensors = TinyTensors({.dtype = dtype});
      std::string& bytes = FindTensor(tensors, name).bytes;
      const std::string infinity = dtype == Dtype::kF32    ? FloatBytes(-kInfinity)
                                   : dtype == Dtype::kBF16 ? std::string("\x80\xFF", 2)
                                                           : std::string("\x00\xFC", 2);
      bytes.replace(bytes.size() - infinity.size(), infinity.size(), infinity);
      Write(model(), tensors);
      for (const CommandResult& result : {Evaluate(model()), Quantize()}) {
        EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kNumeric)) << result.error;
        EXPECT_THAT(result.LastErrorLine(), HasSubstr(name));
      }
      EXPECT_FALSE(std::filesystem::exists(output()));
      ExpectFinding(model(), name);
    }
  }
}

// Every weight is a number; what they make of the text is none.
TEST_F(Numbers, OverflowIsNamedWhereItBegins) {
  const auto fill = [](Tensors& tensors, const char* name, float value) {
    TinyTensor& tensor = FindTensor(tensors, name);
    for (int64_t i = 0; i < static_cast<int64_t>(tensor.bytes.size()) / 2; ++i) {
      SetElement(tensor, i, value);
    }
  };
  Tensors layer = TinyTensors({});
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    fill(layer, fmt::format("model.layers.1.mlp.{}.weight", name).c_str(), 3e38f);
  }
  Write(model(), layer);
  CommandResult result = Evaluate(model());
  EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kNumeric));
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("model.layers.1."));
  Tensors last = TinyTensors({});
  fill(last, "model.layers.1.mlp.down_proj.weight", 3e38f);
  for (const char* name : {"gate_proj", "up_proj"}) {
    fill(last, fmt::format("model.layers.1.mlp.{}.weight", name).c_str(), 30.0f);
  }
  Write(model(), last);
  result = Quantize();  // nothing observes what leaves the last layer
  EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kNumeric)) << result.error;
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("hidden states (calibration)"));
  Tensors head = TinyTensors({});
  fill(head, "model.norm.weight", 3e38f);
  fill(head, "lm_head.weight", 3e38f);
  Write(model(), head);
  result = Evaluate(model());
  EXPECT_EQ(result.status, static_cast<int>(ErrorCode::kNumeric));
  EXPECT_THAT(result.LastErrorLine(), HasSubstr("evaluation window 0"));
  EXPECT_EQ(result.output, "");
}

}  // namespace
}  // namespace narrow
