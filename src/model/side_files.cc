#include "model/side_files.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "io/model_directory.h"
#include "io/output_marker.h"
#include "text/text_format.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kCopyBlockBytes = int64_t{1} << 20;
constexpr int64_t kMaxGenerationConfigBytes = int64_t{1} << 20;

// adapter_config.json without the adapter's weights keeps transformers from loading a model.
constexpr std::array<std::string_view, 5> kLeftBehind = {
    "config.json", "narrow-report.json", "report.html", kMarkerName, "adapter_config.json"};
// What servers and transformers read beside config.json and weights, and licenses.
constexpr std::array<std::string_view, 24> kWellKnown = {"tokenizer.json",
                                                         "tokenizer_config.json",
                                                         "special_tokens_map.json",
                                                         "added_tokens.json",
                                                         "generation_config.json",
                                                         "chat_template.jinja",
                                                         "chat_template.json",
                                                         "tokenizer.model",
                                                         "spiece.model",
                                                         "sentencepiece.bpe.model",
                                                         "vocab.json",
                                                         "vocab.txt",
                                                         "merges.txt",
                                                         "tiktoken.model",
                                                         "tekken.json",
                                                         "preprocessor_config.json",
                                                         "processor_config.json",
                                                         "LICENSE",
                                                         "LICENSE.txt",
                                                         "LICENSE.md",
                                                         "LICENCE",
                                                         "COPYING",
                                                         "NOTICE",
                                                         "USE_POLICY.md"};
constexpr std::string_view kTemplates = "additional_chat_templates";
constexpr int kMaxLinks = 40;  // as the kernel follows
constexpr std::array<const char*, 5> kSamplingFields = {"temperature", "top_k", "top_p", "min_p",
                                                        "typical_p"};

bool IsSideFileName(const std::string& name) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (lower.starts_with('.')) return false;
  if (lower.starts_with("readme") && lower.ends_with(".md")) return false;
  if (std::ranges::count(kLeftBehind, name) > 0) return false;
  return !lower.ends_with(".index.json") && !IsWeightsName(name);
}

// The name of a blob in a Hugging Face cache: the digest of what it holds (SHA-1 or SHA-256).
bool IsDigest(const std::string& name) {
  return (name.size() == 40 || name.size() == 64) &&
         name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Whether the way from a link to its end leads over a blob, which may be a link to another disk.
bool LeadsOverBlob(fs::path path) {
  std::error_code error;
  for (int i = 0; i < kMaxLinks && fs::is_symlink(path, error); ++i) {
    path = path.parent_path() / fs::read_symlink(path, error);
    if (IsDigest(path.filename().string())) return true;
  }
  return false;
}

// Whether `path` in `directory` is no way out of the model, although it may lead to `target` (both
// resolved).
bool BelongsToModel(const fs::path& path, const fs::path& target, const fs::path& directory) {
  if (target.parent_path() == path.parent_path() || LeadsOverBlob(path)) return true;
  // models--org--name/snapshots/<revision>/file -> models--org--name/blobs/<digest>
  std::error_code error;
  const fs::path snapshots = directory.parent_path();
  return snapshots.filename() == "snapshots" &&
         target.parent_path() == fs::canonical(snapshots.parent_path() / "blobs", error);
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

class Planner {
 public:
  explicit Planner(fs::path directory) : directory_(std::move(directory)) {}

  SideFilePlan Plan() {
    for (const fs::path& path : SortedEntries(directory_)) {
      const std::string name = path.filename().string();
      std::error_code error;
      if (name == kTemplates) {
        AddTemplates(path);
      } else if (IsSideFileName(name)) {
        const bool known = IsKnownSideFile(name);
        if (known || !fs::is_directory(path, error)) Add(path, name, known);
      }
    }
    if (!outside_.empty()) {
      plan_.warnings.push_back(fmt::format(
          "{}: symbolic {} of the model directory; what {} is copied", fmt::join(outside_, ", "),
          outside_.size() == 1 ? "link to a file outside" : "links to files outside",
          outside_.size() == 1 ? "it holds" : "they hold"));
    }
    return std::move(plan_);
  }

 private:
  // `known`: a server reads it, so it is followed wherever it leads, and must be there.
  void Add(const fs::path& path, const std::string& name, bool known) {
    std::error_code error;
    const fs::path target = fs::canonical(path, error);
    if (error || !fs::is_regular_file(target, error)) {
      if (known) FailToFollow(path);
      plan_.warnings.push_back(
          fmt::format("{}: not a regular file or a broken link; not copied", PrintableText(name)));
      return;
    }
    if (!BelongsToModel(path, target, directory_)) {
      if (!known) {
        plan_.warnings.push_back(
            fmt::format("{}: a symbolic link to a file outside the model directory; not copied",
                        PrintableText(name)));
        return;
      }
      if (name.ends_with(".json")) static_cast<void>(ReadJsonFile(path.string()));
      outside_.push_back(PrintableText(name));
    }
    SideFile file{name, target, static_cast<int64_t>(fs::file_size(target, error)), {}};
    if (error) Fail(ErrorCode::kIo, "{}: {}", target.string(), error.message());
    if (name == "generation_config.json") file.replacement = GenerationConfigReplacement(target);
    plan_.files.push_back(std::move(file));
  }

  void AddTemplates(const fs::path& folder) {
    std::error_code error;
    if (!fs::is_directory(folder, error)) return;
    if (fs::is_symlink(folder, error)) {
      Fail(ErrorCode::kIo,
           "{}: a symbolic link to a directory, which is not followed, although servers read the "
           "templates in it; copy it: cp -rL",
           folder.string());
    }
    for (const fs::path& path : SortedEntries(folder)) {
      if (path.extension() != ".jinja" || path.filename().string().starts_with('.')) continue;
      Add(path, fmt::format("{}/{}", kTemplates, path.filename().string()), true);
    }
  }

  [[noreturn]] static void FailToFollow(const fs::path& path) {
    const std::string dangling = DanglingLinkNote(path);
    if (!dangling.empty()) {
      Fail(ErrorCode::kNotFound,
           "{}: missing{}; a server needs it beside the weights: copy or download it again",
           path.string(), dangling);
    }
    Fail(ErrorCode::kIo, "{}: not a regular file, although a server reads a file of this name",
         path.string());
  }

  fs::path directory_;
  SideFilePlan plan_;
  std::vector<std::string> outside_;  // names of links that were followed out of the model
};

}  // namespace

SideFilePlan PlanSideFiles(const fs::path& model_directory) {
  std::error_code error;
  fs::path directory = fs::canonical(model_directory, error);
  if (error) {
    Fail(ErrorCode::kIo, "{}: cannot open the model directory: {}", model_directory.string(),
         error.message());
  }
  return Planner(std::move(directory)).Plan();
}

bool IsKnownSideFile(std::string_view name) { return std::ranges::count(kWellKnown, name) > 0; }

void CopySideFiles(const SideFilePlan& plan, const fs::path& output_directory) {
  for (const SideFile& file : plan.files) {
    const fs::path target = output_directory / file.name;
    std::error_code error;
    fs::create_directories(target.parent_path(), error);  // what is wrong shows when it is written
    if (file.replacement) {
      WriteFileAtomically(target, *file.replacement);
    } else {
      CopyFile(file, target);
    }
  }
}

}  // namespace narrow
