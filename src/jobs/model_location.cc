#include "jobs/model_location.h"

#include <optional>
#include <system_error>

#include "base/error.h"
#include "hub/download.h"
#include "hub/model_files.h"
#include "hub/repository.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

// Attempts where the cache may do instead.
constexpr int kAttemptsWithCache = 2;

std::optional<RepositoryName> NameOf(const std::string& given) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(given, error))) return std::nullopt;
  return ParseRepositoryName(given, RepositoryName::Kind::kModel);
}

// The snapshot that the cache has, complete or not.
std::optional<fs::path> Cached(const HubSettings& settings, const RepositoryName& name) {
  const HubCache cache(settings.cache, name);
  const std::optional<std::string> commit = cache.CommitOf(name.revision);
  std::error_code error;
  if (!commit || !fs::exists(cache.Snapshot(*commit) / "config.json", error)) return std::nullopt;
  return cache.Snapshot(*commit);
}

}  // namespace

bool IsHubModel(const std::string& given) { return NameOf(given).has_value(); }

fs::path LocateModel(const std::string& given, ModelPart part, ProgressSink& progress,
                     const std::function<void(const fs::path&)>& before_weights) {
  const std::optional<RepositoryName> name = NameOf(given);
  if (!name) return given;
  const HubSettings settings = HubSettingsFromEnvironment();
  const std::optional<fs::path> cached = Cached(settings, *name);
  if (settings.offline) {
    if (cached) return *cached;
    Fail(ErrorCode::kNotFound,
         "{}: is no directory and not in the cache {}, and HF_HUB_OFFLINE (or "
         "TRANSFORMERS_OFFLINE) forbids fetching it: unset it, or give a directory",
         name->Shown(), settings.cache.string());
  }
  HubListing listing;
  try {
    HubSettings patience = settings;
    if (cached) patience.attempts = kAttemptsWithCache;
    listing = HubClient(patience).List(*name);
  } catch (const Error& error) {
    if (!cached || error.code() != ErrorCode::kIo) throw;
    progress.Warning(fmt::format("{}; {} is used as the cache has it ({})", error.what(),
                                 name->Shown(), cached->filename().string()));
    return *cached;
  }
  HubSnapshot snapshot(settings, *name, std::move(listing));
  const ModelFiles files = FindModelFiles(snapshot, progress);
  snapshot.Fetch(files.description, progress);
  if (part == ModelPart::kAll) {
    if (before_weights) before_weights(snapshot.directory());
    snapshot.Fetch(files.weights, progress);
  }
  return snapshot.directory();
}

}  // namespace narrow
