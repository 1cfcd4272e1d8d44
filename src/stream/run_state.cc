#include "stream/run_state.h"

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "base/fnv_hash.h"
#include "io/paths.h"

namespace narrow {
namespace {

constexpr int kStateFormat = 4;

Json ToJson(const LayerFacts& facts) {
  Json json = Json::object();
  json["linears"] = Json::array();
  for (const LinearFacts& linear : facts.linears) {
    json["linears"].push_back({linear.module, linear.weight_amax, linear.weight_scale,
                               linear.input_amax, linear.input_scale, linear.elements,
                               linear.saturated, linear.output_error, linear.nearest_output_error,
                               static_cast<int>(linear.role), static_cast<int>(linear.group)});
  }
  json["cache"] = nullptr;
  if (facts.cache) {
    json["cache"] = {facts.cache->attention_module, facts.cache->key_amax, facts.cache->key_scale,
                     facts.cache->value_amax, facts.cache->value_scale};
  }
  json["errors"] = nullptr;
  if (facts.errors) json["errors"] = {facts.errors->groups, facts.errors->cache, facts.errors->all};
  return json;
}

// Throws: Json::exception when it is no whole number. The library's own conversion takes any
// number.
int64_t Whole(const Json& json) {
  return json.is_number_unsigned() ? json.get<int64_t>()
                                   : json.get_ref<const Json::number_integer_t&>();
}

// One of a few small numbers; -1 for any other.
int Small(const Json& json) {
  const int64_t value = Whole(json);
  return value >= 0 && value < 64 ? static_cast<int>(value) : -1;
}

// Floats survive: JSON holds them as doubles with all digits.
LayerFacts LayerFactsFromJson(const Json& json) {
  LayerFacts facts;
  for (const Json& linear : json.at("linears")) {
    facts.linears.push_back({linear.at(0), linear.at(1), linear.at(2), linear.at(3), linear.at(4),
                             Whole(linear.at(5)), Whole(linear.at(6)), linear.at(7), linear.at(8),
                             static_cast<WeightRole>(Small(linear.at(9))),
                             static_cast<LinearGroup>(Small(linear.at(10)))});
  }
  if (const Json& cache = json.at("cache"); !cache.is_null()) {
    facts.cache = CacheFacts{cache.at(0), cache.at(1), cache.at(2), cache.at(3), cache.at(4)};
  }
  if (const Json& errors = json.at("errors"); !errors.is_null()) {
    facts.errors = LayerErrors{errors.at(0), errors.at(1), errors.at(2)};
  }
  return facts;
}

Json ToJson(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

std::optional<double> NumberFromJson(const Json& json) {
  return json.is_null() ? std::nullopt : std::optional<double>(json.get<double>());
}

Json ToJson(const KeptGroups& kept) {
  Json json = Json::object();
  json["groups"] = Json::array();
  for (const LayerGroup& group : kept.groups) {
    json["groups"].push_back({group.layer, static_cast<int>(group.group), group.modules,
                              group.extra_bytes, group.error, group.share});
  }
  json["kl_without"] = ToJson(kept.kl_without);
  json["kl_predicted"] = ToJson(kept.kl_predicted);
  json["seconds"] = kept.seconds;
  return json;
}

KeptGroups KeptGroupsFromJson(const Json& json) {
  KeptGroups kept;
  for (const Json& group : json.at("groups")) {
    kept.groups.push_back({Whole(group.at(0)), static_cast<LinearGroup>(Small(group.at(1))),
                           group.at(2).get<std::vector<std::string>>(), Whole(group.at(3)),
                           group.at(4), group.at(5)});
  }
  kept.kl_without = NumberFromJson(json.at("kl_without"));
  kept.kl_predicted = NumberFromJson(json.at("kl_predicted"));
  kept.seconds = json.at("seconds");
  return kept;
}

RunState StateFromJson(const Json& json) {
  RunState state;
  state.fingerprint = json.at("fingerprint").get<Fingerprint>();
  state.job = json.at("job");
  state.layers_done = Whole(json.at("layers_done"));
  if (const Json& kept = json.at("kept"); !kept.is_null()) state.kept = KeptGroupsFromJson(kept);
  for (const Json& layer : json.at("layers")) state.layers.push_back(LayerFactsFromJson(layer));
  for (const auto& [stream, generation] : json.at("hidden_generations").items()) {
    state.hidden_generations[stream] = Small(generation);
  }
  const Json& seconds = json.at("seconds");
  state.calibration_seconds = seconds.at(0);
  state.quantization_seconds = seconds.at(1);
  state.evaluation_seconds = seconds.at(2);
  state.calibration_flops = Whole(json.at("flops").at(0));
  state.evaluation_flops = Whole(json.at("flops").at(1));
  return state;
}

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

void AddHash(Fingerprint& fingerprint, const std::string& name, std::span<const std::byte> bytes) {
  fingerprint[name] = fmt::format("{:016x}", FnvHash(bytes));
}

void SaveRunState(const std::filesystem::path& path, const RunState& state) {
  Json json = Json::object();
  json["format"] = kStateFormat;
  json["fingerprint"] = state.fingerprint;
  json["job"] = state.job;
  json["layers_done"] = state.layers_done;
  json["kept"] = state.kept ? ToJson(*state.kept) : Json(nullptr);
  json["layers"] = Json::array();
  for (const LayerFacts& layer : state.layers) json["layers"].push_back(ToJson(layer));
  json["hidden_generations"] = state.hidden_generations;
  json["seconds"] = {state.calibration_seconds, state.quantization_seconds,
                     state.evaluation_seconds};
  json["flops"] = {state.calibration_flops, state.evaluation_flops};
  WriteFileAtomically(path, json.dump());
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
      return linear.role >= WeightRole::kEmbedding && linear.role <= WeightRole::kLmHead &&
             is_group(linear.group);
    });
  });
  return generations && kept && linears && std::ssize(state.layers) == state.layers_done;
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
    state = StateFromJson(json);
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
