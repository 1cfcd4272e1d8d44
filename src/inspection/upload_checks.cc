#include "inspection/upload_checks.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <system_error>

#include "base/error.h"
#include "hub/repository.h"
#include "io/file.h"
#include "io/output_marker.h"
#include "io/yaml.h"
#include "model/side_files.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr const char* kKind = "remarks on an upload";
constexpr int64_t kMaxCardBytes = int64_t{8} << 20;
// Beside weights and side files: what narrow writes, and what git and the hub look for.
constexpr std::string_view kExpected[] = {"config.json",        "model.safetensors.index.json",
                                          "README.md",          ".gitattributes",
                                          "narrow-report.json", kMarkerName,
                                          "report.html"};
constexpr std::string_view kTemplates = "additional_chat_templates";

bool IsFile(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// A member that is a string with something in it; nothing for all else.
const std::string* Text(const Json& object, const char* key) {
  const auto value = object.find(key);
  if (value == object.end() || !value->is_string()) return nullptr;
  const auto& text = value->get_ref<const std::string&>();
  return text.empty() ? nullptr : &text;
}

const Json* Member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto value = object.find(key);
  return value == object.end() || value->is_null() ? nullptr : &*value;
}

class CardCheck {
 public:
  CardCheck(const fs::path& directory, const Inventory& inventory, Findings& findings)
      : directory_(directory), inventory_(inventory), findings_(findings) {}

  void Run() {
    if (!IsFile(directory_ / "README.md")) {
      Refused("there is no README.md, which is the model card");
      return;
    }
    try {
      const std::string readme = ReadWholeFile(directory_ / "README.md", kMaxCardBytes);
      const auto block = FrontMatterOf(readme);
      if (!block) {
        Missing("README.md has no metadata between two lines --- at its beginning");
        return;
      }
      const Json card = ParseYaml(*block, "README.md");
      if (!card.is_object()) {
        Refused("the metadata of README.md are no mapping");
        return;
      }
      BaseModel(card);
      License(card);
      for (const char* key : {"library_name", "pipeline_tag"}) {
        if (Text(card, key) == nullptr) Missing(fmt::format("README.md names no {}", key));
      }
      Results(card);
    } catch (const Error& error) {
      Refused(error.what());
    }
  }

 private:
  void Refused(const std::string& text) { findings_.Error(kKind, "for an upload: " + text); }
  void Missing(const std::string& text) { findings_.Warning(kKind, "for an upload: " + text); }

  void BaseModel(const Json& card) {
    const Json* base = Member(card, "base_model");
    if (base == nullptr) {
      Missing("README.md names no base_model: the model on the hub that this one was made of");
      return;
    }
    for (const Json& name : base->is_array() ? *base : Json::array({*base})) {
      if (name.is_string() && IsHubName(name.get_ref<const std::string&>())) continue;
      Refused(fmt::format("base_model {} of README.md is no name of a model on the hub (org/name)",
                          Quoted(name.is_string() ? name.get<std::string>() : name.type_name())));
    }
    if (Member(inventory_.config, "quantization_config") != nullptr &&
        Text(card, "base_model_relation") == nullptr) {
      Missing(
          "README.md names a base_model, but not that it was quantized: name the model that was, "
          "with base_model_relation: quantized");
    }
  }

  void License(const Json& card) {
    const Json* license = Member(card, "license");
    if (license == nullptr) {
      Missing("README.md names no license; that of the base model applies");
      return;
    }
    if (!license->is_string()) {
      Refused("license of README.md is no string");
      return;
    }
    if (*license == "other" && Text(card, "license_name") == nullptr) {
      Missing("README.md has license: other, without a license_name");
    }
    const std::string* link = Text(card, "license_link");
    if (link == nullptr || link->find('/') != std::string::npos || IsFile(directory_ / *link)) {
      return;
    }
    Missing(fmt::format("license_link {} of README.md is no file here", Quoted(*link)));
  }

  // The required members, as the hub checks them.
  void Results(const Json& card) {
    const Json* index = Member(card, "model-index");
    if (index == nullptr) {
      Missing("README.md has no results of an evaluation (model-index)");
      return;
    }
    if (!index->is_array() || index->empty()) {
      Refused("model-index of README.md is no list of models");
      return;
    }
    for (const Json& model : *index) {
      const Json* results = Member(model, "results");
      if (!model.is_object() || Text(model, "name") == nullptr || results == nullptr ||
          !results->is_array()) {
        Refused("a model of model-index in README.md lacks name or results");
        continue;
      }
      for (const Json& result : *results) Result(result);
    }
  }

  void Result(const Json& result) {
    const Json* task = Member(result, "task");
    const Json* dataset = Member(result, "dataset");
    const Json* metrics = Member(result, "metrics");
    if (task == nullptr || !task->is_object() || Text(*task, "type") == nullptr ||
        dataset == nullptr || !dataset->is_object() || Text(*dataset, "type") == nullptr ||
        Text(*dataset, "name") == nullptr || metrics == nullptr || !metrics->is_array()) {
      Refused(
          "a result of model-index in README.md lacks task.type, dataset.type, dataset.name or "
          "metrics");
      return;
    }
    for (const Json& metric : *metrics) {
      if (metric.is_object() && Text(metric, "type") != nullptr &&
          Member(metric, "value") != nullptr) {
        continue;
      }
      Refused("a metric of model-index in README.md lacks type or value");
    }
  }

  const fs::path& directory_;
  const Inventory& inventory_;
  Findings& findings_;
};

// Everything in the directory that no one looks for, by name.
std::set<std::string> Strays(const fs::path& directory, const Inventory& inventory) {
  std::set<std::string> strays;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code dangling;
    const bool folder = fs::is_directory(entry->path(), dangling);
    const bool weights = std::ranges::any_of(
        inventory.tensors, [&](const InspectedTensor& tensor) { return tensor.file == name; });
    const bool expected = std::ranges::count(kExpected, name) > 0 || IsKnownSideFile(name);
    if (folder ? name != kTemplates : !weights && !expected) strays.insert(name);
  }
  return strays;
}

}  // namespace

void CheckForUpload(const fs::path& directory, const Inventory& inventory, Findings& findings) {
  CardCheck(directory, inventory, findings).Run();
  if (!IsFile(directory / "generation_config.json")) {
    findings.Warning(kKind,
                     "for an upload: there is no generation_config.json: servers take token ids "
                     "that end a text, and sampling, from it");
  }
  for (const std::string& name : Strays(directory, inventory)) {
    findings.Warning("files that do not belong here",
                     fmt::format("for an upload: {} is nothing that loaders read; remove it, or "
                                 "leave it out",
                                 Quoted(name)));
  }
}

}  // namespace narrow
