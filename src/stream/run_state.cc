#include "stream/run_state.h"

#include <algorithm>
#include <concepts>
#include <system_error>
#include <type_traits>

#include "base/error.h"
#include "base/fnv_hash.h"
#include "io/paths.h"

namespace narrow {
namespace {

constexpr int kStateFormat = 7;

template <typename T, typename... Types>
concept OneOf = (std::same_as<std::remove_const_t<T>, Types> || ...);
template <typename T>
concept Record = OneOf<T, RunState, LayerFacts, LinearFacts, CacheFacts, LayerErrors, ExpertsFacts,
                       KeptGroups, LayerGroup>;

// What is saved of each record: member(name, value) for every one. Saving and loading both go by
// these lists.
void ForMembers(OneOf<LinearFacts> auto& linear, const auto& member) {
  member("module", linear.module);
  member("weight_amax", linear.weight_amax);
  member("weight_scale", linear.weight_scale);
  member("input_amax", linear.input_amax);
  member("input_scale", linear.input_scale);
  member("elements", linear.elements);
  member("saturated", linear.saturated);
  member("output_error", linear.output_error);
  member("nearest_output_error", linear.nearest_output_error);
  member("role", linear.role);
  member("group", linear.group);
}

void ForMembers(OneOf<CacheFacts> auto& cache, const auto& member) {
  member("attention_module", cache.attention_module);
  member("key_amax", cache.key_amax);
  member("key_scale", cache.key_scale);
  member("value_amax", cache.value_amax);
  member("value_scale", cache.value_scale);
  member("query_amax", cache.query_amax);
  member("query_scale", cache.query_scale);
}

void ForMembers(OneOf<LayerErrors> auto& errors, const auto& member) {
  member("groups", errors.groups);
  member("cache", errors.cache);
  member("all", errors.all);
}

void ForMembers(OneOf<LayerFacts> auto& facts, const auto& member) {
  member("linears", facts.linears);
  member("cache", facts.cache);
  member("errors", facts.errors);
  member("experts", facts.experts);
}

void ForMembers(OneOf<ExpertsFacts> auto& experts, const auto& member) {
  member("module", experts.module);
  member("per_token", experts.per_token);
  member("calibration_tokens", experts.calibration_tokens);
  member("tokens", experts.tokens);
  member("route_agreement", experts.route_agreement);
}

void ForMembers(OneOf<LayerGroup> auto& group, const auto& member) {
  member("layer", group.layer);
  member("group", group.group);
  member("modules", group.modules);
  member("extra_bytes", group.extra_bytes);
  member("error", group.error);
  member("share", group.share);
}

void ForMembers(OneOf<KeptGroups> auto& kept, const auto& member) {
  member("groups", kept.groups);
  member("kl_without", kept.kl_without);
  member("kl_predicted", kept.kl_predicted);
  member("seconds", kept.seconds);
}

void ForMembers(OneOf<RunState> auto& state, const auto& member) {
  member("fingerprint", state.fingerprint);
  member("job", state.job);
  member("layers_done", state.layers_done);
  member("tensors_done", state.tensors_done);
  member("kept", state.kept);
  member("layers", state.layers);
  member("hidden_generations", state.hidden_generations);
  member("calibration_seconds", state.calibration_seconds);
  member("quantization_seconds", state.quantization_seconds);
  member("evaluation_seconds", state.evaluation_seconds);
  member("calibration_flops", state.calibration_flops);
  member("evaluation_flops", state.evaluation_flops);
}

// Floats survive: JSON holds them as doubles with all digits.
class Saver {
 public:
  explicit Saver(Json& json) : json_(json) {}
  void operator()(const char* name, const auto& value) const { json_[name] = Of(value); }

 private:
  template <typename T>
  static Json Of(const T& value) {
    if constexpr (Record<T>) {
      Json json = Json::object();
      ForMembers(value, Saver(json));
      return json;
    } else if constexpr (std::is_enum_v<T>) {
      return static_cast<int>(value);
    } else {
      return value;
    }
  }
  template <typename T>
  static Json Of(const std::optional<T>& value) {
    return value ? Of(*value) : Json(nullptr);
  }
  template <typename T>
  static Json Of(const std::vector<T>& values) {
    Json array = Json::array();
    for (const T& value : values) array.push_back(Of(value));
    return array;
  }

  Json& json_;
};

// Throws: Json::exception for a member that is absent or of another kind.
class Loader {
 public:
  explicit Loader(const Json& json) : json_(json) {}
  void operator()(const char* name, auto& value) const { Take(json_.at(name), value); }

 private:
  // The library's own conversion takes any number for a whole one.
  static int64_t Whole(const Json& json) {
    return json.is_number_unsigned() ? json.get<int64_t>()
                                     : json.get_ref<const Json::number_integer_t&>();
  }
  // One of a few small numbers; -1 for any other.
  static int Small(const Json& json) {
    const int64_t value = Whole(json);
    return value >= 0 && value < 64 ? static_cast<int>(value) : -1;
  }

  template <typename T>
  static void Take(const Json& json, T& value) {
    if constexpr (Record<T>) {
      ForMembers(value, Loader(json));
    } else if constexpr (std::is_enum_v<T>) {
      value = static_cast<T>(Small(json));
    } else if constexpr (std::is_same_v<T, int64_t>) {
      value = Whole(json);
    } else {
      json.get_to(value);
    }
  }
  template <typename T>
  static void Take(const Json& json, std::optional<T>& value) {
    if (!json.is_null()) Take(json, value.emplace());
  }
  template <typename T>
  static void Take(const Json& json, std::vector<T>& values) {
    for (const Json& value : json.get_ref<const Json::array_t&>()) {
      Take(value, values.emplace_back());
    }
  }
  static void Take(const Json& json, std::map<std::string, int>& values) {
    for (const auto& [name, value] : json.items()) values[name] = Small(value);
  }

  const Json& json_;
};

void CheckSameJob(const Fingerprint& saved, const Fingerprint& now,
                  const std::filesystem::path& path) {
  const auto value = [](const Fingerprint& fingerprint, const std::string& key) {
    const auto found = fingerprint.find(key);
    return found == fingerprint.end() ? std::string("absent") : found->second;
  };
  Fingerprint all = saved;
  all.insert(now.begin(), now.end());
  for (const auto& [key, unused] : all) {
    if (value(saved, key) == value(now, key)) continue;
    Fail(ErrorCode::kInvalidArgument,
         "{} belongs to another job: {} was {}, now it is {}; repeat that command, or start over "
         "with --resume never",
         path.string(), key, value(saved, key), value(now, key));
  }
}

}  // namespace

void AddFiles(Fingerprint& fingerprint, const CheckpointReader& checkpoint) {
  for (const CheckpointReader::FileFacts& file : checkpoint.files()) {
    fingerprint[kWeightFileKey + file.name] =
        fmt::format("{} bytes of time {}", file.bytes, file.modified_ns);
  }
}

void AddHash(Fingerprint& fingerprint, const std::string& name, std::span<const std::byte> bytes) {
  fingerprint[name] = fmt::format("{:016x}", FnvHash(bytes));
}

std::string RenderRunState(const RunState& state) {
  Json json = {{"format", kStateFormat}};
  ForMembers(state, Saver(json));
  return json.dump();
}

void SaveRunState(const std::filesystem::path& path, const RunState& state) {
  WriteFileAtomically(path, RenderRunState(state));
}

namespace {

[[noreturn]] void FailDamaged(const std::string& what) {
  Fail(ErrorCode::kCorruptInput, "{}: the saved state is damaged, start over with --resume never",
       what);
}

// Whether this program wrote the file, whatever version and job.
bool IsState(const std::filesystem::path& path) {
  try {
    const Json json = ReadJsonFile(path.string());
    return json.is_object() && json.contains("format") && json.contains("fingerprint");
  } catch (const Error&) {
    return false;
  }
}

// A generation is one of two files; roles and groups are those that there are.
bool IsPlausible(const RunState& state) {
  const auto is_group = [](LinearGroup group) {
    return static_cast<std::size_t>(group) < kLinearGroupCount;
  };
  const bool generations = std::ranges::all_of(
      state.hidden_generations, [](const auto& stream) { return (stream.second | 1) == 1; });
  const bool kept = !state.kept || std::ranges::all_of(state.kept->groups, [&](const auto& group) {
    return group.layer >= 0 && is_group(group.group);
  });
  const bool linears = std::ranges::all_of(state.layers, [&](const LayerFacts& layer) {
    return std::ranges::all_of(layer.linears, [&](const LinearFacts& linear) {
      return linear.role >= WeightRole::kEmbedding && linear.role <= kLastWeightRole &&
             is_group(linear.group);
    });
  });
  return generations && kept && linears && std::ssize(state.layers) == state.layers_done &&
         state.tensors_done >= 0;
}

}  // namespace

RunState ParseRunState(std::string_view text, const std::string& what) {
  RunState state;
  try {
    const Json json = ParseJson(text, what, {.non_finite = NonFinite::kRefused});
    if (json.at("format") != kStateFormat) {
      Fail(ErrorCode::kUnsupported,
           "{} was written by another version of narrow; start over with --resume never", what);
    }
    ForMembers(state, Loader(json));
  } catch (const nlohmann::json::exception&) {
    FailDamaged(what);
  } catch (const Error& failure) {
    if (failure.code() == ErrorCode::kUnsupported) throw;
    FailDamaged(failure.what());
  }
  if (!IsPlausible(state)) FailDamaged(what);
  return state;
}

std::optional<RunState> LoadRunState(const std::filesystem::path& path,
                                     const Fingerprint& fingerprint) {
  std::error_code error;
  if (!std::filesystem::exists(std::filesystem::symlink_status(path, error))) return std::nullopt;
  std::string text;
  try {
    text = ReadWholeFile(path, JsonLimits().max_bytes);
  } catch (const Error& failure) {
    FailDamaged(failure.what());
  }
  RunState state = ParseRunState(text, path.string());
  CheckSameJob(state.fingerprint, fingerprint, path);
  return state;
}

WorkDirectory::WorkDirectory(const std::filesystem::path& path, Named named)
    : path_(ResolvePath(path)), made_(MakeDirectories(path_)) {
  try {
    Open(named);
  } catch (...) {
    lock_.reset();
    RemoveEmptyDirectories(path_, made_);
    throw;
  }
}

void WorkDirectory::Open(Named named) {
  lock_ = DirectoryLock::Take(path_, DirectoryLock::Missing::kMake);
  if (!lock_) {
    Fail(ErrorCode::kInvalidArgument, "{} is {}; wait for it or stop it", path_.string(),
         DescribeHolder(path_));
  }
  if (lock_->found()) {
    const auto made = lock_->note().is_object() ? lock_->note().find("made") : lock_->note().end();
    if (made != lock_->note().end() && made->is_string()) made_ = made->get<std::string>();
  } else {
    CheckForeign(named);
  }
  if (made_.empty() && named == Named::kByProgram) made_ = path_;
  lock_->Write({{"made", made_.string()}});
  if (!foreign_state_) RemoveTemporariesOf(state_path());
}

WorkDirectory::~WorkDirectory() {
  lock_.reset();  // and its file, unless that is to be kept
  RemoveEmptyDirectories(path_, made_);
}

// No run left the directory.
void WorkDirectory::CheckForeign(Named named) {
  if (named == Named::kByProgram) return;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    const std::string name = entry.path().filename().string();
    if (!IsOwnName(name)) continue;
    if (entry.path() == state_path()) {
      foreign_state_ = !IsState(entry.path());
      continue;
    }
    Fail(ErrorCode::kInvalidArgument,
         "the work directory {} holds {}, which no run left there; choose another --work_dir",
         path_.string(), Quoted(name));
  }
}

bool WorkDirectory::IsOwnName(const std::string& name) const {
  if (name == state_path().filename() || name == log_path().filename()) return true;
  // hidden-<stream>.<generation>
  return name.starts_with("hidden-") && (name.ends_with(".0") || name.ends_with(".1")) &&
         std::ranges::all_of(name.substr(0, name.size() - 2),
                             [](char c) { return c == '-' || (c >= 'a' && c <= 'z'); });
}

void WorkDirectory::Clear() {
  if (foreign_state_) {
    Fail(ErrorCode::kInvalidArgument,
         "{} is in the way, and no run left it there; choose another --work_dir, or remove it",
         state_path().string());
  }
  std::error_code error;
  std::vector<std::filesystem::path> ours;
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    if (IsOwnName(entry.path().filename().string())) ours.push_back(entry.path());
  }
  for (const std::filesystem::path& path : ours) std::filesystem::remove(path, error);
  // Whatever a damaged file system made of them.
  std::filesystem::remove_all(state_path(), error);
  std::filesystem::remove_all(log_path(), error);
}

void WorkDirectory::Remove() noexcept {
  if (!foreign_state_) Clear();
  lock_->Remove();
}

}  // namespace narrow
