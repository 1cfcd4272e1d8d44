#include "io/model_directory.h"

#include <gtest/gtest.h>

#include <string>

#include "io/checkpoint_reader.h"
#include "io/scratch_directory.h"

namespace narrow {
namespace {

struct Directory {
  const char* file;     // beside config.json
  const char* message;  // names it and the step
};

TEST(ModelDirectory, NamesTheWeightsInOtherFormatsAndTheStep) {
  const Directory cases[] = {
      {"pytorch_model.bin", "there is \"pytorch_model.bin\", which narrow does not read; convert"},
      {"pytorch_model.bin.index.json", "save_pretrained"},
      {"pytorch_model-00001-of-00002.bin", "save_pretrained"},
      {"consolidated.00.pth", "convert_llama_weights_to_hf.py"},
      {"model-Q4_K_M.gguf", "narrow import "},
      {"tf_model.h5", "from_tf"},
      {"flax_model.msgpack", "from_flax"},
      {"model.onnx", "safetensors version"},
      {"model.ckpt", "save_pretrained"},
      {"adapter_model.safetensors", "AutoPeftModelForCausalLM"},
      {"adapter_model.bin", "AutoPeftModelForCausalLM"},
      {"adapter_config.json", "AutoPeftModelForCausalLM"},
      {"._model.safetensors", "download"},
      {"tokenizer.json", "download"},
  };
  for (const Directory& c : cases) {
    for (const bool config : {true, false}) {
      SCOPED_TRACE(c.file);
      const ScratchDirectory scratch;
      scratch.Put(c.file, "{}");
      if (config) scratch.Put("config.json", "{}");
      if (!config && std::string(c.message) == "download") continue;
      ExpectError(ErrorCode::kNotFound, c.message, [&] { CheckpointReader{scratch.path()}; });
      ExpectError(ErrorCode::kNotFound, config ? "no safetensors weights" : "no config.json",
                  [&] { CheckpointReader{scratch.path()}; });
    }
  }
}

TEST(ModelDirectory, NamesTheBaseOfAnAdapter) {
  const ScratchDirectory scratch;
  EXPECT_EQ(AdapterRemark(scratch.path()), std::nullopt);
  scratch.Put("adapter_config.json", R"({"base_model_name_or_path":"acme/base"})");
  ExpectError(ErrorCode::kNotFound, "of \"acme/base\", not of a model",
              [&] { FailWithoutConfig(scratch.path()); });
  EXPECT_NE(AdapterRemark(scratch.path())->find("of \"acme/base\""), std::string::npos);
  for (const char* damaged : {"{", "[]", R"({"base_model_name_or_path":1})", "{}"}) {
    scratch.Put("adapter_config.json", damaged);
    EXPECT_NE(AdapterRemark(scratch.path())->find("is not merged"), std::string::npos) << damaged;
  }
}

TEST(ModelDirectory, TellsFilesFoldersAndCachesApart) {
  const ScratchDirectory scratch;
  scratch.Put("a.gguf", "");
  ExpectError(ErrorCode::kNotFound, "narrow import",
              [&] { FailWithoutConfig(scratch.path() / "a.gguf"); });
  scratch.Put("a.safetensors", "");
  ExpectError(ErrorCode::kNotFound, "name the directory",
              [&] { FailWithoutConfig(scratch.path() / "a.safetensors"); });
  ExpectError(ErrorCode::kNotFound, "hf download",
              [&] { FailWithoutConfig(scratch.path() / "acme" / "model"); });
  const std::filesystem::path snapshot = scratch.path() / "snapshots" / "0123";
  std::filesystem::create_directories(snapshot);
  scratch.Put("snapshots/0123/config.json", "{}");
  ExpectError(ErrorCode::kNotFound, "its checkpoint is " + snapshot.string(),
              [&] { FailWithoutConfig(scratch.path()); });
}

}  // namespace
}  // namespace narrow
