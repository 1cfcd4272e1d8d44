#include "io/model_directory.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAdapterConfig = "adapter_config.json";
constexpr int64_t kMaxAdapterConfigBytes = int64_t{1} << 20;
constexpr std::array<std::string_view, 13> kWeightSuffixes = {
    ".safetensors", ".bin",     ".pt",   ".pth",       ".ckpt", ".gguf",  ".ggml",
    ".h5",          ".msgpack", ".onnx", ".onnx_data", ".npz",  ".tflite"};

// Steps to a checkpoint; {0} is the directory, {1} the file.
constexpr const char* kSaveAgain =
    "convert it with transformers and PyTorch: python3 -c \"from transformers import "
    "AutoModelForCausalLM as M, AutoTokenizer as T; M.from_pretrained('{0}', dtype='auto')"
    ".save_pretrained('{0}-safetensors'); T.from_pretrained('{0}').save_pretrained("
    "'{0}-safetensors')\"";
constexpr const char* kImport = "make a checkpoint of it: narrow import {0}/{1} {0}-checkpoint";
constexpr const char* kMeta =
    "this is Meta's own layout: take the model's Hugging Face version, or convert it with "
    "convert_llama_weights_to_hf.py of transformers 4";
constexpr const char* kOldFramework =
    "load it with transformers 4 (from_tf=True or from_flax=True) and save it with save_pretrained";
constexpr const char* kForInference =
    "it is made for another program to run: take the safetensors version of the model";

struct Foreign {
  std::string_view prefix;
  std::string_view suffix;
  const char* step;
};
// What weights in other formats are called; the first row that fits a file says what to do.
constexpr std::array kForeign = {
    Foreign{"pytorch_model", ".bin", kSaveAgain},
    Foreign{"pytorch_model", ".bin.index.json", kSaveAgain},
    Foreign{"consolidated", ".pth", kMeta},
    Foreign{"", ".gguf", kImport},
    Foreign{"tf_model", ".h5", kOldFramework},
    Foreign{"flax_model", ".msgpack", kOldFramework},
    Foreign{"", ".onnx", kForInference},
    Foreign{"", ".tflite", kForInference},
    Foreign{"", ".bin", kSaveAgain},
    Foreign{"", ".pth", kSaveAgain},
    Foreign{"", ".pt", kSaveAgain},
    Foreign{"", ".ckpt", kSaveAgain},
};

// Names of the entries, in order; none of a directory that cannot be listed.
std::vector<std::string> Entries(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool Has(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// Weights in another format, and the step that helps; "" when there are none.
std::string ForeignWeights(const fs::path& directory) {
  const std::vector<std::string> names = Entries(directory);
  for (const Foreign& kind : kForeign) {
    for (const std::string& name : names) {
      const bool fits = name.size() > kind.suffix.size() && name.starts_with(kind.prefix) &&
                        name.ends_with(kind.suffix) && !IsAdapterWeights(name);
      if (!fits) continue;
      return fmt::format("there is {}, which narrow does not read; {}", Quoted(name),
                         fmt::format(fmt::runtime(kind.step), directory.string(), name));
    }
  }
  return "";
}

// " of BASE", as adapter_config.json says; "" when it says nothing that can be read.
std::string OfBase(const fs::path& directory) {
  try {
    const Json config =
        ReadJsonFile((directory / kAdapterConfig).string(), {.max_bytes = kMaxAdapterConfigBytes});
    const auto base = OptionalString(config, "base_model_name_or_path", kAdapterConfig);
    return base && !base->empty() ? " of " + Quoted(*base) : "";
  } catch (const Error&) {
    return "";
  }
}

// The file that shows that there is an adapter; "" when there is none.
std::string AdapterFile(const fs::path& directory) {
  for (const std::string& name : Entries(directory)) {
    if (name == kAdapterConfig || IsAdapterWeights(name)) return name;
  }
  return "";
}

// What to do with a directory that holds an adapter and no model; "" when it holds none.
std::string AdapterAlone(const fs::path& directory) {
  const std::string file = AdapterFile(directory);
  if (file.empty()) return "";
  return fmt::format(
      "{0} is of an adapter (LoRA and the like){1}, not of a model; merge it into its base model "
      "with "
      "peft: python3 -c \"from peft import AutoPeftModelForCausalLM as M; "
      "M.from_pretrained('{2}', dtype='auto').merge_and_unload().save_pretrained('{2}-merged')\"",
      file, OfBase(directory), directory.string());
}

// The snapshot of a model's folder in a Hugging Face cache; "" where there is none.
std::string Snapshot(const fs::path& directory) {
  for (const std::string& revision : Entries(directory / "snapshots")) {
    if (Has(directory / "snapshots" / revision / "config.json")) {
      return (directory / "snapshots" / revision).string();
    }
  }
  return "";
}

}  // namespace

bool IsWeightsName(std::string_view file_name) {
  std::string lower(file_name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::ranges::any_of(kWeightSuffixes,
                             [&](std::string_view suffix) { return lower.ends_with(suffix); });
}

bool IsAdapterWeights(const std::string& file_name) {
  return file_name.starts_with("adapter_model") &&
         (file_name.ends_with(".safetensors") || file_name.ends_with(".bin"));
}

std::optional<std::string> AdapterRemark(const fs::path& directory) {
  const std::string file = AdapterFile(directory);
  if (file.empty()) return std::nullopt;
  return fmt::format(
      "{}: an adapter (LoRA and the like){} lies in the model directory; it is not merged into the "
      "weights and not part of this job. If it belongs to the model, merge it first "
      "(merge_and_unload of peft)",
      file, OfBase(directory));
}

void FailWithoutConfig(const fs::path& directory) {
  const std::string what = directory.string();
  std::error_code error;
  if (fs::is_regular_file(directory, error)) {
    const bool gguf = what.ends_with(".gguf");
    Fail(ErrorCode::kNotFound, "{}: a file, not a model directory; {}", what,
         gguf ? fmt::format("make a checkpoint of it: narrow import {} DIRECTORY", what)
              : "name the directory that it lies in");
  }
  if (!fs::is_directory(directory, error)) {
    Fail(ErrorCode::kNotFound,
         "{}: no such model directory{}; a model of the Hugging Face hub is fetched with: hf "
         "download NAME --local-dir DIRECTORY",
         what, DanglingLinkNote(directory));
  }
  std::string step;
  if (const std::string note = DanglingLinkNote(directory / "config.json"); !note.empty()) {
    step = "config.json" + note + "; copy or download the file again";
  } else if (const std::string snapshot = Snapshot(directory); !snapshot.empty()) {
    step = "this is a model's folder in a Hugging Face cache; its checkpoint is " + snapshot;
  } else if (step = AdapterAlone(directory); step.empty()) {
    step = ForeignWeights(directory);
  }
  Fail(ErrorCode::kNotFound, "{}: no config.json; {}", what,
       step.empty() ? "expected a Hugging Face checkpoint" : step);
}

void FailWithoutWeights(const fs::path& directory) {
  std::string step = ForeignWeights(directory);
  if (step.empty()) step = AdapterAlone(directory);
  if (step.empty()) {
    step = "expected model.safetensors or model.safetensors.index.json; download them";
  }
  Fail(ErrorCode::kNotFound, "{}: no safetensors weights; {}", directory.string(), step);
}

}  // namespace narrow
