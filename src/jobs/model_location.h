// Where the model of a command lies: a directory, or a repository of the hub by name.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "base/progress.h"

namespace narrow {

// What of a model a command needs.
enum class ModelPart {
  kAll,
  kDescription,  // everything but the weights
};

// `given` itself where it exists, or is no name of a repository; else the snapshot of
// "org/name[@revision]" in the hub's cache, with what was missing of it fetched. When the hub
// cannot be reached, or HF_HUB_OFFLINE says so, what the cache has of that revision. Throws:
// kNotFound (missing or gated, saying what to do; offline and not in the cache); as
// HubSnapshot::Fetch. `before_weights`, which is handed the directory of a model of the hub when
// its description is there, may throw: then no weights are fetched.
std::filesystem::path LocateModel(
    const std::string& given, ModelPart part, ProgressSink& progress,
    const std::function<void(const std::filesystem::path&)>& before_weights = {});

// Whether LocateModel would ask the hub.
bool IsHubModel(const std::string& given);

}  // namespace narrow
