// The tensors of the output against the source's, element by element, for every layout of a Llama.
#include <gtest/gtest.h>

#include <cmath>

#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

using Presence = TinyModel::Presence;

enum class Scales { kPerMatrix, kShared };
enum class Rounding { kNearest, kDefault };

struct Variant {
  const char* name;
  TinyModel model;
};

// Names the variant in a test's name.
void PrintTo(const Variant& variant, std::ostream* stream) { *stream << variant.name; }

// The magnitude of a finite E4M3FN code without its sign: exponent bias 7, three mantissa bits.
double Magnitude(int code) {
  const int exponent = code >> 3;
  const int mantissa = code & 7;
  return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
}

// No neighbouring code comes closer to the value. The quotient the code is rounded from is an F32
// number, so a value may lie beyond a tie by its rounding error.
testing::AssertionResult IsNearest(uint8_t code, double scale, double value) {
  const int magnitude = code & 0x7F;
  if (magnitude == 0x7F) return testing::AssertionFailure() << "NaN for " << value;
  if (value != 0 && magnitude != 0 && (code >= 0x80) != (value < 0)) {
    return testing::AssertionFailure() << "wrong sign for " << value;
  }
  const double target = std::fabs(value);
  const double error = std::fabs(Magnitude(magnitude) * scale - target);
  for (const int other : {magnitude - 1, magnitude + 1}) {
    if (other < 0 || other > 0x7E) continue;
    if (std::fabs(Magnitude(other) * scale - target) < error - target * 0x1p-22) {
      return testing::AssertionFailure()
             << "code " << magnitude << " for " << value / scale << ", nearer is " << other;
    }
  }
  return testing::AssertionSuccess();
}

float AbsoluteMaximum(const std::vector<float>& values) {
  float maximum = 0;
  for (const float value : values) maximum = std::max(maximum, std::fabs(value));
  return maximum;
}

// The linears whose weights share a scale with this one when scales are shared.
std::vector<std::string> Fused(const std::string& module) {
  const std::string prefix = module.substr(0, module.rfind('.') + 1);
  const std::string last = module.substr(prefix.size());
  if (last == "gate_proj" || last == "up_proj") return {prefix + "gate_proj", prefix + "up_proj"};
  if (last == "q_proj" || last == "k_proj" || last == "v_proj") {
    return {prefix + "q_proj", prefix + "k_proj", prefix + "v_proj"};
  }
  return {module};
}

class QuantizedTensors : public testing::TestWithParam<Variant> {
 protected:
  void Quantize(Scales scales, Rounding rounding = Rounding::kNearest,
                const char* head_basis = "none") {
    rounding_ = rounding;
    const std::string model = (scratch_.path() / "model").string();
    const std::string output = (scratch_.path() / "output").string();
    WriteTinyModel(model, GetParam().model);
    std::vector<std::string> arguments = {
        "quantize",         "--model_dir", model,          "--output_dir", output,
        "--kv_cache_dtype", "fp8",         "--head_basis", head_basis,     "--skip_evaluation",
        "--num_calib_data", "4",           "--seq_len",    "128"};
    if (scales == Scales::kPerMatrix) arguments.push_back("--no_weight_matrix_merge");
    if (rounding == Rounding::kNearest) arguments.insert(arguments.end(), {"--quant_algo", "none"});
    const CommandResult result = RunNarrow(arguments);
    ASSERT_EQ(result.status, 0) << result.error;
    source_ = ReadTensors(model);
    output_ = ReadTensors(output);
    const CommandResult inspection = RunNarrow({"inspect", output});
    EXPECT_EQ(inspection.status, 0) << inspection.output;
  }

  void ExpectQuantized(const std::string& module, Scales scales) {
    const StoredTensor& source = source_.at(module + ".weight");
    const StoredTensor& weight = output_.at(module + ".weight");
    const StoredTensor& weight_scale = output_.at(module + ".weight_scale");
    const StoredTensor& input_scale = output_.at(module + ".input_scale");
    ASSERT_EQ(weight.dtype, Dtype::kF8E4M3);
    ASSERT_EQ(weight.shape, source.shape);
    ASSERT_EQ(weight_scale.dtype, Dtype::kF32);
    ASSERT_EQ(input_scale.dtype, Dtype::kF32);
    const std::vector<std::string> fused = Fused(module);
    float amax = AbsoluteMaximum(source.Floats());
    if (scales == Scales::kShared) {
      for (const std::string& other : fused) {
        amax = std::max(amax, AbsoluteMaximum(source_.at(other + ".weight").Floats()));
      }
    }
    EXPECT_EQ(weight_scale.Scalar(), amax / 448.0f);
    for (const std::string& other : fused) {
      EXPECT_EQ(input_scale.Scalar(), output_.at(other + ".input_scale").Scalar());
    }
    EXPECT_GT(input_scale.Scalar(), 0.0f);
    if (rounding_ != Rounding::kNearest) return;
    const std::vector<float> values = source.Floats();
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_TRUE(
          IsNearest(static_cast<uint8_t>(weight.bytes[i]), weight_scale.Scalar(), values[i]))
          << "element " << i;
    }
  }

  // Checks every tensor of the source and of the output once.
  void ExpectEveryTensor(Scales scales) {
    std::size_t expected = source_.size();
    int64_t linears = 0;
    for (const auto& [name, tensor] : source_) {
      SCOPED_TRACE(name);
      const std::size_t suffix = name.find("_proj.weight");
      if (suffix != std::string::npos) {
        ExpectQuantized(name.substr(0, name.rfind('.')), scales);
        expected += 2;
        ++linears;
      } else {
        EXPECT_EQ(output_.at(name).dtype, tensor.dtype);
        EXPECT_EQ(output_.at(name).shape, tensor.shape);
        EXPECT_TRUE(output_.at(name).bytes == tensor.bytes) << "bytes changed";
      }
    }
    const int64_t layers = GetParam().model.layers;
    EXPECT_EQ(linears, 7 * layers);
    for (int64_t layer = 0; layer < layers; ++layer) {
      for (const char* scale : {"q_scale", "k_scale", "v_scale"}) {
        const StoredTensor& tensor =
            output_.at(fmt::format("model.layers.{}.self_attn.{}", layer, scale));
        EXPECT_EQ(tensor.dtype, Dtype::kF32);
        EXPECT_GT(tensor.Scalar(), 0.0f);
        ++expected;
      }
    }
    EXPECT_EQ(output_.size(), expected);
  }

  ScratchDirectory scratch_;
  Rounding rounding_ = Rounding::kNearest;
  std::map<std::string, StoredTensor> source_;
  std::map<std::string, StoredTensor> output_;
};

TEST_P(QuantizedTensors, OwnScales) {
  ASSERT_NO_FATAL_FAILURE(Quantize(Scales::kPerMatrix));
  ExpectEveryTensor(Scales::kPerMatrix);
}

TEST_P(QuantizedTensors, SharedScales) {
  ASSERT_NO_FATAL_FAILURE(Quantize(Scales::kShared));
  ExpectEveryTensor(Scales::kShared);
}

// Rounding with compensation chooses other codes, and changes nothing else.
TEST_P(QuantizedTensors, DefaultRounding) {
  ASSERT_NO_FATAL_FAILURE(Quantize(Scales::kPerMatrix, Rounding::kDefault));
  ExpectEveryTensor(Scales::kPerMatrix);
}

// A fitted basis of the heads changes nothing outside the quantized linears, and own scales of
// fused matrices differ by powers of two.
TEST_P(QuantizedTensors, FittedBasis) {
  ASSERT_NO_FATAL_FAILURE(Quantize(Scales::kPerMatrix, Rounding::kDefault, "fitted"));
  for (const auto& [name, tensor] : source_) {
    SCOPED_TRACE(name);
    const std::size_t suffix = name.find("_proj.weight");
    if (suffix == std::string::npos) {
      EXPECT_TRUE(output_.at(name).bytes == tensor.bytes) << "bytes changed";
      continue;
    }
    const std::string module = name.substr(0, name.rfind('.'));
    const double scale = output_.at(module + ".weight_scale").Scalar();
    for (const std::string& other : Fused(module)) {
      const double ratio = std::log2(output_.at(other + ".weight_scale").Scalar() / scale);
      EXPECT_EQ(ratio, std::round(ratio)) << other;
    }
  }
}

const Variant kVariants[] = {
    {"Plain", {}},
    {"Float16", {.dtype = Dtype::kF16}},
    {"Float32", {.dtype = Dtype::kF32}},
    {"OneKeyValueHead", {.key_value_heads = 1}},
    {"AllKeyValueHeads", {.key_value_heads = 4}},
    {"OwnHeadSize", {.head_size = 24}},
    {"OddSizes",
     {.layers = 3,
      .hidden = 50,
      .intermediate = 77,
      .heads = 5,
      .key_value_heads = 5,
      .head_size = 10,
      .vocabulary = 301}},
    {"TiedHead", {.lm_head = Presence::kAbsent}},
    {"Biases", {.attention_bias = Presence::kPresent, .mlp_bias = Presence::kPresent}},
    {"Transformers5", {.spelling = TinyModel::Spelling::kTransformers5}},
    {"LinearRope", {.rope = TinyModel::Rope::kLinear}},
    {"Llama3Rope",
     {.spelling = TinyModel::Spelling::kTransformers5, .rope = TinyModel::Rope::kLlama3}},
    {"Shards", {.shards = 5}},
};

INSTANTIATE_TEST_SUITE_P(Layouts, QuantizedTensors, testing::ValuesIn(kVariants),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace narrow
