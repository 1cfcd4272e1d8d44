#include "hub/model_files.h"

#include <set>
#include <string>
#include <string_view>

#include "base/error.h"
#include "io/checkpoint_files.h"
#include "io/model_directory.h"

namespace narrow {
namespace {

constexpr std::string_view kSingleName = "model.safetensors";
constexpr std::string_view kTemplates = "additional_chat_templates/";

bool IsDescription(const std::string& path) {
  const std::string_view name = path.starts_with(kTemplates)
                                    ? std::string_view(path).substr(kTemplates.size())
                                    : std::string_view(path);
  if (name.find('/') != name.npos || name.starts_with('.')) return false;
  return !IsWeightsName(name) && (!name.ends_with(".index.json") || name == kIndexName);
}

// Names of weights in any format, to say what there is instead.
std::string OtherWeights(const HubListing& listing) {
  for (const HubFile& file : listing.files) {
    if (IsWeightsName(file.path)) return fmt::format(" (it has {})", Quoted(file.path));
  }
  return "";
}

std::set<std::string> WeightNames(HubSnapshot& snapshot, ProgressSink& progress) {
  const HubListing& listing = snapshot.listing();
  std::set<std::string> names;
  if (const HubFile* index = listing.Find(kIndexName)) {
    snapshot.Fetch({index}, progress);
    const std::string path = (snapshot.directory() / index->path).string();
    for (const auto& [tensor, file] : ParseWeightMap(ReadJsonFile(path), path)) names.insert(file);
    return names;
  }
  if (listing.Find(kSingleName) != nullptr) return {std::string(kSingleName)};
  for (const HubFile& file : listing.files) {
    if (file.path.ends_with(".safetensors") && file.path.find('/') == std::string::npos &&
        !file.path.starts_with('.') && !IsAdapterWeights(file.path)) {
      names.insert(file.path);
    }
  }
  return names;
}

}  // namespace

ModelFiles FindModelFiles(HubSnapshot& snapshot, ProgressSink& progress) {
  const HubListing& listing = snapshot.listing();
  const std::string shown = snapshot.name().Shown();
  ModelFiles files;
  for (const HubFile& file : listing.files) {
    if (IsDescription(file.path)) files.description.push_back(&file);
  }
  if (listing.Find("config.json") == nullptr) {
    Fail(ErrorCode::kNotFound, "{}: has no config.json{}; it is no model in Hugging Face's layout",
         shown, OtherWeights(listing));
  }
  for (const std::string& name : WeightNames(snapshot, progress)) {
    const HubFile* file = listing.Find(name);
    if (file == nullptr) {
      Fail(ErrorCode::kNotFound, "{}: has no {}, although {} names it", shown, Quoted(name),
           kIndexName);
    }
    files.weights.push_back(file);
  }
  if (files.weights.empty()) {
    Fail(ErrorCode::kNotFound,
         "{}: has no weights in safetensors{}; take another revision or a conversion of the model",
         shown, OtherWeights(listing));
  }
  return files;
}

}  // namespace narrow
