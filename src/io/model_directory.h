// What lies in a model directory beside, or instead of, a checkpoint in safetensors: said by name,
// with the step that makes a checkpoint of it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace narrow {

// There is no config.json to read. Throws: kNotFound, telling apart what is no directory, an
// adapter, a GGUF file, the folder of a model in a Hugging Face cache, and weights in other
// formats.
[[noreturn]] void FailWithoutConfig(const std::filesystem::path& directory);

// There is a config.json, but no safetensors file. Throws: kNotFound naming the weights that are
// there (pytorch_model.bin and its kin, GGUF, ONNX, an adapter) and how to convert them.
[[noreturn]] void FailWithoutWeights(const std::filesystem::path& directory);

// The name of a file that holds weights of an adapter (adapter_model.safetensors), never a model's.
bool IsAdapterWeights(const std::string& file_name);

// The name of a file that holds weights, in whatever format.
bool IsWeightsName(std::string_view file_name);

// A sentence about the adapter that lies in the directory and is not part of its model; nothing
// when there is none.
std::optional<std::string> AdapterRemark(const std::filesystem::path& directory);

}  // namespace narrow
