// Damaged, contradictory and hostile input: one clear line, the documented exit status, nothing
// left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "base/error.h"
#include "io/scratch_directory.h"
#include "tests/support/command.h"
#include "tests/support/stored_tensors.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

using testing::HasSubstr;

constexpr const char* kQuery = "model.layers.0.self_attn.q_proj.weight";
constexpr const char* kUp = "model.layers.1.mlp.up_proj.weight";
constexpr const char* kShard = "model-00002-of-00003.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct BadInput {
  const char* name;
  ErrorCode code;
  const char* message;  // part of it
  // Spoils the checkpoint in the directory.
  std::function<void(const std::filesystem::path&)> spoil;
  std::vector<std::string> arguments = {};  // added to the command; "@" is the checkpoint
};

void PrintTo(const BadInput& input, std::ostream* stream) { *stream << input.name; }

// Rewrites the weights after a change to the list of tensors.
std::function<void(const std::filesystem::path&)> Tensors(
    const std::function<void(std::vector<TinyTensor>&)>& change) {
  return [change](const std::filesystem::path& directory) {
    std::vector<TinyTensor> tensors = TinyTensors({});
    change(tensors);
    WriteWeights(directory, tensors, 1);
  };
}

std::function<void(const std::filesystem::path&)> Element(const char* name, float value) {
  return Tensors([name, value](std::vector<TinyTensor>& tensors) {
    SetElement(FindTensor(tensors, name), 37, value);
  });
}

std::function<void(const std::filesystem::path&)> Config(const char* key, const Json& value) {
  return [key, value](const std::filesystem::path& directory) {
    Json config = TinyConfig({});
    config[key] = value;
    WriteFile(directory / "config.json", config.dump());
  };
}

std::function<void(const std::filesystem::path&)> File(const char* name,
                                                       const std::string& contents) {
  return [name, contents](const std::filesystem::path& directory) {
    WriteFile(directory / name, contents);
  };
}

// Rewrites the header's text of the only weight file, data as it was.
std::function<void(const std::filesystem::path&)> Header(const char* from, const char* to) {
  return [from, to](const std::filesystem::path& directory) {
    const std::string file = ReadFile(directory / "model.safetensors");
    uint64_t length = 0;
    file.copy(reinterpret_cast<char*>(&length), sizeof length);
    std::string header = file.substr(8, length);
    const std::size_t found = header.find(from);
    ASSERT_NE(found, std::string::npos) << from;
    header.replace(found, std::string_view(from).size(), to);
    WriteFile(directory / "model.safetensors",
              SafetensorsFile(header, std::string_view(file).substr(8 + length)));
  };
}

std::function<void(const std::filesystem::path&)> HeaderLength(uint64_t length) {
  return [length](const std::filesystem::path& directory) {
    std::string file = ReadFile(directory / "model.safetensors");
    file.replace(0, 8, reinterpret_cast<const char*>(&length), 8);
    WriteFile(directory / "model.safetensors", file);
  };
}

// Three shards with a changed index.
std::function<void(const std::filesystem::path&)> Index(const std::function<void(Json&)>& change) {
  return [change](const std::filesystem::path& directory) {
    std::filesystem::remove(directory / "model.safetensors");
    WriteWeights(directory, TinyTensors({}), 3);
    Json index = ReadJsonFile((directory / kIndex).string());
    change(index);
    WriteFile(directory / kIndex, index.dump());
  };
}

void Nothing(const std::filesystem::path& /*directory*/) {}

const std::vector<BadInput>& BadInputs() {
  static const std::vector<BadInput> inputs = {
      // Weight files.
      {"TruncatedFile", ErrorCode::kCorruptInput, "truncated",
       [](const std::filesystem::path& directory) {
         std::filesystem::resize_file(directory / "model.safetensors", 60000);
       }},
      {"TruncatedHeader", ErrorCode::kCorruptInput, "model.safetensors",
       [](const std::filesystem::path& directory) {
         std::filesystem::resize_file(directory / "model.safetensors", 100);
       }},
      {"EmptyFile", ErrorCode::kCorruptInput, "model.safetensors", File("model.safetensors", "")},
      {"TrailingBytes", ErrorCode::kCorruptInput, "after the last tensor",
       [](const std::filesystem::path& directory) {
         WriteFile(directory / "model.safetensors",
                   ReadFile(directory / "model.safetensors") + "more");
       }},
      {"GitLfsPointer", ErrorCode::kCorruptInput, "git lfs pull",
       File("model.safetensors",
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 133448\n")},
      {"HeaderLengthBeyondFile", ErrorCode::kCorruptInput, "header", HeaderLength(1 << 26)},
      {"HeaderLengthOverflow", ErrorCode::kCorruptInput, "header", HeaderLength(~uint64_t{7})},
      {"HeaderLengthShort", ErrorCode::kCorruptInput, "header", HeaderLength(200)},
      {"HeaderLengthZero", ErrorCode::kCorruptInput, "header", HeaderLength(0)},
      {"Overlap", ErrorCode::kCorruptInput, "overlap", Header("[33024,33152]", "[33022,33150]")},
      {"OutOfRange", ErrorCode::kCorruptInput, "lm_head.weight",
       Header("[156544,189568]", "[9156544,9189568]")},
      {"SizeNotOfShape", ErrorCode::kCorruptInput, "model.norm.weight",
       Header(R"("model.norm.weight":{"dtype":"BF16","shape":[64])",
              R"("model.norm.weight":{"dtype":"BF16","shape":[65])")},
      {"NegativeDimension", ErrorCode::kCorruptInput, "shape",
       Header(R"("shape":[64])", R"("shape":[-64])")},
      {"OverflowingShape", ErrorCode::kCorruptInput, "2^63",
       Header(R"("shape":[258,64])", R"("shape":[4294967296,4294967296])")},
      {"DuplicateTensor", ErrorCode::kCorruptInput, "model.layers.0.input_layernorm.weight",
       Header("model.layers.0.post_attention_layernorm.weight",
              "model.layers.0.input_layernorm.weight")},
      {"UnknownDtype", ErrorCode::kCorruptInput, "BF17", Header(R"("BF16")", R"("BF17")")},
      {"IntegerWeights", ErrorCode::kCorruptInput, "I16", Header(R"("BF16")", R"("I16")")},
      {"QuantizedWeights", ErrorCode::kCorruptInput, "unquantized",
       Tensors([](std::vector<TinyTensor>& tensors) {
         TinyTensor& tensor = FindTensor(tensors, kQuery);
         tensor.dtype = Dtype::kF8E4M3;
         tensor.bytes.resize(tensor.bytes.size() / 2);
       })},
      {"DeepHeader", ErrorCode::kCorruptInput, "header",
       File("model.safetensors", SafetensorsFile("{\"a\":" + std::string(100000, '['), ""))},
      {"MissingTensor", ErrorCode::kCorruptInput, kQuery,
       Header(kQuery, "model.layers.0.self_attn.q_porj.weight")},
      {"UnknownTensor", ErrorCode::kCorruptInput, "model.layers.0.self_attn.q_norm.weight",
       Tensors([](std::vector<TinyTensor>& tensors) {
         TinyTensor extra = tensors.back();
         extra.name = "model.layers.0.self_attn.q_norm.weight";
         tensors.push_back(extra);
       })},
      {"NoWeights", ErrorCode::kNotFound, "no safetensors",
       [](const std::filesystem::path& directory) {
         std::filesystem::remove(directory / "model.safetensors");
       }},
      // Index.
      {"IndexNamesAbsentFile", ErrorCode::kNotFound, kShard,
       [](const std::filesystem::path& directory) {
         Index([](Json&) {})(directory);
         std::filesystem::remove(directory / kShard);
       }},
      {"IndexNamesAbsentTensor", ErrorCode::kCorruptInput, "model.ghost.weight",
       Index([](Json& index) { index["weight_map"]["model.ghost.weight"] = kShard; })},
      {"IndexForgetsTensor", ErrorCode::kCorruptInput, kQuery,
       Index([](Json& index) { index["weight_map"].erase(kQuery); })},
      {"IndexLeavesDirectory", ErrorCode::kCorruptInput, "plain file name",
       Index([](Json& index) { index["weight_map"][kQuery] = "../model.safetensors"; })},
      {"IndexWithAbsolutePath", ErrorCode::kCorruptInput, "plain file name",
       Index([](Json& index) { index["weight_map"][kQuery] = "/etc/model.safetensors"; })},
      {"IndexNotAnObject", ErrorCode::kCorruptInput, kIndex, File(kIndex, "[1, 2]")},
      // Numbers.
      {"NanWeight", ErrorCode::kNumeric, kUp, Element(kUp, kNan)},
      {"InfiniteWeight", ErrorCode::kNumeric, kQuery, Element(kQuery, -kInfinity)},
      {"NanNorm", ErrorCode::kNumeric, "model.layers.0.post_attention_layernorm.weight",
       Element("model.layers.0.post_attention_layernorm.weight", kNan)},
      {"NanFinalNorm", ErrorCode::kNumeric, "model.norm.weight",
       Element("model.norm.weight", kNan)},
      {"NanEmbedding", ErrorCode::kNumeric, "model.embed_tokens.weight",
       Element("model.embed_tokens.weight", kNan)},
      {"NanHead", ErrorCode::kNumeric, "lm_head.weight", Element("lm_head.weight", kNan)},
      {"InfiniteActivation", ErrorCode::kNumeric, "model.layers.1.mlp.down_proj",
       Tensors([](std::vector<TinyTensor>& tensors) {
         for (const char* name : {kUp, "model.layers.1.mlp.gate_proj.weight"}) {
           for (int64_t i = 0; i < 64; ++i) SetElement(FindTensor(tensors, name), i, 3e38f);
         }
       })},
      {"InfiniteActivationInFloat32",
       ErrorCode::kNumeric,
       "model.layers.1.mlp.down_proj",
       Tensors([](std::vector<TinyTensor>& tensors) {
         for (const char* name : {kUp, "model.layers.1.mlp.gate_proj.weight"}) {
           for (int64_t i = 0; i < 64; ++i) SetElement(FindTensor(tensors, name), i, 3e38f);
         }
       }),
       {"--data_type", "float32"}},
      // Config.
      {"NoConfig", ErrorCode::kNotFound, "config.json",
       [](const std::filesystem::path& directory) {
         std::filesystem::remove(directory / "config.json");
       }},
      {"BrokenConfig", ErrorCode::kCorruptInput, "config.json",
       File("config.json", "{\"architectures\": [\"LlamaForCausalLM\"")},
      {"DeepConfig", ErrorCode::kCorruptInput, "config.json",
       File("config.json", std::string(100000, '['))},
      {"ConfigNotUtf8", ErrorCode::kCorruptInput, "config.json",
       File("config.json", "{\"model_type\": \"\xff\xfe\"}")},
      {"ConfigIsAnArray", ErrorCode::kCorruptInput, "config.json", File("config.json", "[]")},
      {"OtherArchitecture", ErrorCode::kUnsupported, "JambaForCausalLM",
       Config("architectures", {"JambaForCausalLM"})},
      {"OtherActivation", ErrorCode::kUnsupported, "gelu", Config("hidden_act", "gelu")},
      {"OtherRope", ErrorCode::kUnsupported, "fancy",
       Config("rope_scaling", {{"rope_type", "fancy"}, {"factor", 4.0}})},
      {"AlreadyQuantized", ErrorCode::kUnsupported, "already quantized",
       Config("quantization_config", {{"quant_method", "fp8"}})},
      {"WrongHidden", ErrorCode::kCorruptInput, "config.json asks for", Config("hidden_size", 128)},
      {"WrongIntermediate", ErrorCode::kCorruptInput, "config.json asks for",
       Config("intermediate_size", 100)},
      {"WrongHeads", ErrorCode::kCorruptInput, "config.json asks for",
       Config("num_key_value_heads", 4)},
      {"HeadsThatDoNotDivide", ErrorCode::kCorruptInput, "cannot share",
       Config("num_key_value_heads", 3)},
      {"WrongHeadSize", ErrorCode::kCorruptInput, "config.json asks for", Config("head_dim", 32)},
      {"WrongVocabulary", ErrorCode::kCorruptInput, "config.json asks for",
       Config("vocab_size", 300)},
      {"TooManyLayers", ErrorCode::kCorruptInput, "model.layers.2.",
       Config("num_hidden_layers", 3)},
      {"TooFewLayers", ErrorCode::kCorruptInput, "model.layers.1.", Config("num_hidden_layers", 1)},
      {"UnexpectedBias", ErrorCode::kCorruptInput, "bias", Config("attention_bias", true)},
      {"NegativeSize", ErrorCode::kCorruptInput, "hidden_size", Config("hidden_size", -64)},
      {"FractionalSize", ErrorCode::kCorruptInput, "hidden_size", Config("hidden_size", 64.5)},
      {"HugeSize", ErrorCode::kCorruptInput, "vocab_size", Config("vocab_size", int64_t{1} << 62)},
      // Tokenizer and texts.
      {"NoTokenizer", ErrorCode::kNotFound, "tokenizer.json",
       [](const std::filesystem::path& directory) {
         std::filesystem::remove(directory / "tokenizer.json");
       }},
      {"BrokenTokenizer", ErrorCode::kCorruptInput, "tokenizer.json",
       File("tokenizer.json", "{\"model\": ")},
      {"TokenizerNotUtf8", ErrorCode::kCorruptInput, "tokenizer.json",
       File("tokenizer.json", "{\"version\": \"1.\xc3\x28\"}")},
      {"TokenizerOfAnotherModel", ErrorCode::kCorruptInput, "vocabulary",
       [](const std::filesystem::path& directory) {
         std::string text = ByteTokenizer();
         for (std::size_t at; (at = text.find("256")) != std::string::npos;) {
           text.replace(at, 3, "999");
         }
         WriteFile(directory / "tokenizer.json", text);
       }},
      {"NoDataSet", ErrorCode::kNotFound, "no such file", Nothing, {"--dataset", "@/texts.jsonl"}},
      {"NamedDataSetNotThere", ErrorCode::kNotFound, "pileval", Nothing, {"--dataset", "pileval"}},
      {"EmptyDataSet",
       ErrorCode::kCorruptInput,
       "no text",
       File("texts.jsonl", ""),
       {"--dataset", "@/texts.jsonl"}},
      {"DataSetNotUtf8",
       ErrorCode::kCorruptInput,
       "texts.jsonl",
       File("texts.jsonl", "{\"text\": \"caf\xe9\"}\n"),
       {"--dataset", "@/texts.jsonl"}},
      {"PlainTextNotUtf8",
       ErrorCode::kCorruptInput,
       "texts.txt",
       File("texts.txt", "caf\xe9\n"),
       {"--dataset", "@/texts.txt"}},
      {"DataSetWithoutText",
       ErrorCode::kCorruptInput,
       "text",
       File("texts.jsonl", "{\"body\": \"a\"}\n"),
       {"--dataset", "@/texts.jsonl"}},
      {"DeepDataSet",
       ErrorCode::kCorruptInput,
       "texts.jsonl",
       File("texts.jsonl", "{\"text\": \"a\", \"b\": " + std::string(100000, '[') + "\n"),
       {"--dataset", "@/texts.jsonl"}},
      {"DamagedZstandard",
       ErrorCode::kCorruptInput,
       "texts.jsonl.zst",
       File("texts.jsonl.zst", "\x28\xb5\x2f\xfd no frame"),
       {"--dataset", "@/texts.jsonl.zst"}},
      {"EvaluationTextTooShort",
       ErrorCode::kInvalidArgument,
       "window",
       File("short.txt", "hello"),
       {"--eval_data", "@/short.txt"}},
      // Arguments.
      {"UnknownFlag", ErrorCode::kInvalidArgument, "--quantum", Nothing, {"--quantum"}},
      {"FlagWithoutValue", ErrorCode::kInvalidArgument, "--seq_len", Nothing, {"--seq_len"}},
      {"NotANumber", ErrorCode::kInvalidArgument, "many", Nothing, {"--num_calib_data", "many"}},
      {"NoDocuments",
       ErrorCode::kInvalidArgument,
       "num_calib_data",
       Nothing,
       {"--num_calib_data", "0"}},
      {"NoModel",
       ErrorCode::kNotFound,
       "no such model directory",
       Nothing,
       {"--model_dir", "@/nowhere"}},
  };
  return inputs;
}

class BadInputTest : public testing::TestWithParam<BadInput> {
 protected:
  std::string checkpoint() const { return (scratch_.path() / "model").string(); }
  std::string output() const { return (scratch_.path() / "output").string(); }

  ScratchDirectory scratch_;
};

void ExpectOneLine(const CommandResult& result, ErrorCode code, const std::string& message) {
  EXPECT_FALSE(result.timed_out);
  EXPECT_EQ(result.status, static_cast<int>(code)) << result.error;
  const std::string line = result.LastErrorLine();
  EXPECT_THAT(line, testing::StartsWith("narrow: "));
  EXPECT_THAT(line, HasSubstr(message));
  EXPECT_LT(line.size(), 600u) << line;
  EXPECT_EQ(result.error.find("narrow: "), result.error.size() - line.size() - 1) << result.error;
  EXPECT_EQ(result.output, "");
}

TEST_P(BadInputTest, IsRefused) {
  WriteTinyModel(checkpoint(), {});
  ASSERT_NO_FATAL_FAILURE(GetParam().spoil(checkpoint()));
  std::vector<std::string> more = {"--num_calib_data", "4", "--seq_len",       "64",
                                   "--eval_windows",   "1", "--window_tokens", "64"};
  for (std::string argument : GetParam().arguments) {
    if (argument.starts_with('@')) argument.replace(0, 1, checkpoint());
    more.push_back(argument);
  }
  const CommandResult result = RunNarrow(QuantizeArguments(checkpoint(), output(), more));
  ExpectOneLine(result, GetParam().code, GetParam().message);
  EXPECT_THAT(Names(scratch_.path()), testing::UnorderedElementsAre("model"));
}

INSTANTIATE_TEST_SUITE_P(All, BadInputTest, testing::ValuesIn(BadInputs()),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace narrow
