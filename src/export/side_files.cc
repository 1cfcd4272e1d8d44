#include "export/side_files.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <span>
#include <string_view>
#include <system_error>

#include "base/error.h"
#include "export/config.h"
#include "export/text_format.h"
#include "io/file.h"
#include "io/json.h"
#include "io/output_marker.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kCopyBlockBytes = int64_t{1} << 20;
constexpr int64_t kMaxGenerationConfigBytes = int64_t{1} << 20;

constexpr std::array<std::string_view, 14> kWeightSuffixes = {
    ".safetensors", ".bin",     ".pt",   ".pth",       ".ckpt", ".gguf",   ".ggml",
    ".h5",          ".msgpack", ".onnx", ".onnx_data", ".npz",  ".tflite", ".index.json"};
constexpr std::array<std::string_view, 3> kWrittenByThisProgram = {
    "config.json", "narrow-report.json", kMarkerName};
constexpr std::array<const char*, 5> kSamplingFields = {"temperature", "top_k", "top_p", "min_p",
                                                        "typical_p"};

bool IsSideFileName(const std::string& name) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.starts_with('.')) return false;
  if (lower.starts_with("readme") && lower.ends_with(".md")) return false;
  if (std::ranges::count(kWrittenByThisProgram, name) > 0) return false;
  return std::ranges::none_of(kWeightSuffixes,
                              [&](std::string_view suffix) { return lower.ends_with(suffix); });
}

// Whether a link in `directory` may lead to `target` (both resolved).
bool MayFollow(const fs::path& target, const fs::path& directory) {
  if (target.parent_path() == directory) return true;
  // models--org--name/snapshots/<revision>/file -> models--org--name/blobs/<digest>
  const fs::path snapshots = directory.parent_path();
  return snapshots.filename() == "snapshots" &&
         target.parent_path() == snapshots.parent_path() / "blobs";
}

// The contents with do_sample true, or nothing when they can stay as they are.
std::optional<std::string> GenerationConfigReplacement(const fs::path& path) {
  Json config = ParseJson(ReadWholeFile(path, kMaxGenerationConfigBytes), "generation_config.json");
  if (!config.is_object()) {
    Fail(ErrorCode::kCorruptInput, "generation_config.json: expected an object, found {}",
         config.type_name());
  }
  if (OptionalBool(config, "do_sample", "generation_config.json").value_or(false)) return {};
  // Temperature 0 means greedy decoding: sampling with it is an error.
  const auto temperature = OptionalNumber(config, "temperature", "generation_config.json");
  if (temperature && *temperature <= 0) return {};
  const bool samples = std::ranges::any_of(kSamplingFields, [&](const char* field) {
    return config.contains(field) && !config[field].is_null();
  });
  if (!samples) return {};
  config["do_sample"] = true;
  return RenderJsonFile(config);
}

void CopyFile(const SideFile& file, const fs::path& target) {
  const InputFile input(file.source);
  OutputFile output(target);
  std::vector<std::byte> block(
      static_cast<std::size_t>(std::min(kCopyBlockBytes, std::max<int64_t>(input.size(), 1))));
  for (int64_t offset = 0; offset < input.size(); offset += kCopyBlockBytes) {
    const int64_t count = std::min(kCopyBlockBytes, input.size() - offset);
    const std::span<std::byte> part(block.data(), static_cast<std::size_t>(count));
    input.ReadAt(offset, part);
    output.WriteAt(offset, part);
  }
  output.Close();
}

std::vector<fs::path> SortedEntries(const fs::path& directory) {
  std::error_code error;
  std::vector<fs::path> entries;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    entries.push_back(entry->path());
  }
  if (error) {
    Fail(ErrorCode::kIo, "{}: cannot list the model directory: {}", directory.string(),
         error.message());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

}  // namespace

SideFilePlan PlanSideFiles(const fs::path& model_directory) {
  std::error_code error;
  const fs::path directory = fs::canonical(model_directory, error);
  if (error) {
    Fail(ErrorCode::kIo, "{}: cannot open the model directory: {}", model_directory.string(),
         error.message());
  }
  SideFilePlan plan;
  for (const fs::path& path : SortedEntries(directory)) {
    const std::string name = path.filename().string();
    if (!IsSideFileName(name) || fs::is_directory(path, error)) continue;
    const fs::path target = fs::canonical(path, error);
    if (error || !fs::is_regular_file(target, error)) {
      plan.warnings.push_back(
          fmt::format("{}: not a regular file or a broken link; not copied", PrintableText(name)));
      continue;
    }
    if (!MayFollow(target, directory)) {
      plan.warnings.push_back(
          fmt::format("{}: a symbolic link to a file outside the model directory; not copied",
                      PrintableText(name)));
      continue;
    }
    SideFile file{name, target, static_cast<int64_t>(fs::file_size(target, error)), {}};
    if (error) Fail(ErrorCode::kIo, "{}: {}", target.string(), error.message());
    if (name == "generation_config.json") file.replacement = GenerationConfigReplacement(target);
    plan.files.push_back(std::move(file));
  }
  return plan;
}

void CopySideFiles(const SideFilePlan& plan, const fs::path& output_directory) {
  for (const SideFile& file : plan.files) {
    const fs::path target = output_directory / file.name;
    if (file.replacement) {
      WriteFileAtomically(target, *file.replacement);
    } else {
      CopyFile(file, target);
    }
  }
}

}  // namespace narrow
