#include "stream/run_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "io/scratch_directory.h"
#include "model/family.h"
#include "synthesis/presets.h"

namespace narrow {
namespace {

// All members of the records. A member that is added does not compile here until it is in the list,
// and so in the tests.
auto Members(const LinearFacts& facts) {
  const auto& [a, b, c, d, e, f, g, h, i, j, k] = facts;
  return std::tie(a, b, c, d, e, f, g, h, i, j, k);
}
auto Members(const CacheFacts& facts) {
  const auto& [a, b, c, d, e, f, g] = facts;
  return std::tie(a, b, c, d, e, f, g);
}
auto Members(const LayerErrors& errors) {
  const auto& [a, b, c] = errors;
  return std::tie(a, b, c);
}
auto Members(const ExpertsFacts& facts) {
  const auto& [a, b, c, d, e] = facts;
  return std::tie(a, b, c, d, e);
}
auto Members(const LayerGroup& group) {
  const auto& [a, b, c, d, e, f] = group;
  return std::tie(a, b, c, d, e, f);
}

template <typename T>
void ExpectSame(const T& a, const T& b) {
  EXPECT_EQ(Members(a), Members(b));
}
template <typename T>
void ExpectSame(const std::optional<T>& a, const std::optional<T>& b) {
  ASSERT_EQ(a.has_value(), b.has_value());
  if (a) ExpectSame(*a, *b);
}
template <typename T>
void ExpectSame(const std::vector<T>& a, const std::vector<T>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) ExpectSame(a[i], b[i]);
}
void ExpectSame(const LayerFacts& a, const LayerFacts& b) {
  const auto& [a_linears, a_cache, a_errors, a_experts] = a;
  const auto& [b_linears, b_cache, b_errors, b_experts] = b;
  ExpectSame(a_linears, b_linears);
  ExpectSame(a_cache, b_cache);
  ExpectSame(a_errors, b_errors);
  ExpectSame(a_experts, b_experts);
}
void ExpectSame(const KeptGroups& a, const KeptGroups& b) {
  const auto& [a_groups, a_without, a_predicted, a_seconds] = a;
  const auto& [b_groups, b_without, b_predicted, b_seconds] = b;
  ExpectSame(a_groups, b_groups);
  EXPECT_EQ(std::tie(a_without, a_predicted, a_seconds),
            std::tie(b_without, b_predicted, b_seconds));
}
void ExpectSame(const RunState& a, const RunState& b) {
  const auto& [a1, a2, a3, a4, a_kept, a_layers, a6, a7, a8, a9, a10, a11] = a;
  const auto& [b1, b2, b3, b4, b_kept, b_layers, b6, b7, b8, b9, b10, b11] = b;
  EXPECT_EQ(std::tie(a1, a2, a3, a4, a6, a7, a8, a9, a10, a11),
            std::tie(b1, b2, b3, b4, b6, b7, b8, b9, b10, b11));
  ASSERT_EQ(a_kept.has_value(), b_kept.has_value());
  if (a_kept) ExpectSame(*a_kept, *b_kept);
  ASSERT_EQ(a_layers.size(), b_layers.size());
  for (std::size_t i = 0; i < a_layers.size(); ++i) ExpectSame(a_layers[i], b_layers[i]);
}

// Of the tiny model after both layers, with no two numbers alike and none that a decimal of few
// digits would hold.
RunState FullState() {
  const Json config = PresetConfig("tiny");
  const ModelFamily& family = FindModelFamily(config, "preset");
  const DecoderConfig decoder = family.parse_config(config, "preset");
  double number = 1.0 / 3.0;
  const auto next = [&] { return number *= 1.7; };
  const auto next_float = [&] { return static_cast<float>(next()); };
  RunState state;
  state.fingerprint = {{"--max_kl", "none"}, {"config", "\xC3\xA9 \"quoted\"\n"}};
  state.job = "0123abcd";
  state.layers_done = decoder.layers;
  state.tensors_done = 7;
  state.kept = KeptGroups{{}, next(), std::nullopt, next()};
  for (int64_t i = 0; i < decoder.layers; ++i) {
    const LayerSpec spec = family.layer(decoder, i);
    LayerFacts& layer = state.layers.emplace_back();
    for (const LinearSpec& linear : spec.linears) {
      layer.linears.push_back({linear.module, next_float(), next_float(), next_float(),
                               next_float(), linear.rows * linear.columns, i + 1, next(), next(),
                               linear.role, linear.group});
    }
    if (i == 0) {
      layer.cache = CacheFacts{spec.attention_module, next_float(), next_float(), next_float(),
                               next_float(),          next_float(), next_float()};
      layer.experts = ExpertsFacts{"experts", 2, 64, {1, 2}, next()};
      layer.errors = LayerErrors{{next(), next(), next(), next()}, next(), next()};
    }
    state.kept->groups.push_back({i,
                                  LinearGroup::kGateUp,
                                  {spec.linears[4].module, spec.linears[5].module},
                                  int64_t{1} << 53,
                                  next(),
                                  next()});
  }
  state.hidden_generations = {{"original", 1}, {"calibration", 0}};
  state.calibration_seconds = next();
  state.quantization_seconds = next();
  state.evaluation_seconds = next();
  state.calibration_flops = (int64_t{1} << 62) + 1;  // no double holds it
  state.evaluation_flops = (int64_t{1} << 61) + 1;
  return state;
}

std::string Saved(const RunState& state) {
  const ScratchDirectory scratch;
  SaveRunState(scratch.path() / "state.json", state);
  return scratch.Get("state.json");
}

TEST(RunState, EveryMemberSurvives) {
  const RunState full = FullState();
  ExpectSame(ParseRunState(Saved(full), "state.json"), full);
  RunState none;  // of a job that measures nothing and has done no layer
  none.fingerprint = {{"a", "b"}};
  ExpectSame(ParseRunState(Saved(none), "state.json"), none);
}

// Calls visit(path) for every value inside `json`.
void ForEachValue(const Json& json, const Json::json_pointer& path,
                  const std::function<void(const Json::json_pointer&)>& visit) {
  if (!json.is_structured()) return;
  for (const auto& [key, value] : json.items()) {
    Json::json_pointer inner = path;
    if (json.is_array()) {
      inner /= static_cast<std::size_t>(std::stoul(key));
    } else {
      inner /= key;
    }
    visit(inner);
    ForEachValue(value, inner, visit);
  }
}

// Every member is read: what it holds may not be of another kind, and it may not be absent.
TEST(RunState, AMemberThatIsDamagedOrGoneIsRefused) {
  const Json whole = ParseJson(Saved(FullState()), "state.json");
  int damaged = 0;
  const auto refuse = [&](const Json& json) {
    ++damaged;
    ExpectError(ErrorCode::kCorruptInput, "start over with --resume never",
                [&] { ParseRunState(json.dump(), "state.json"); });
  };
  ForEachValue(whole, Json::json_pointer(), [&](const Json::json_pointer& path) {
    if (path.to_string() == "/format") return;
    SCOPED_TRACE(path.to_string());
    Json other = whole;
    other[path] = other[path].is_string() || other[path].is_structured() ? Json(0.5) : Json("1");
    refuse(other);
    if (path.empty() || whole[path.parent_pointer()].is_array()) return;
    const std::string parent = path.parent_pointer().to_string();
    if (parent == "/fingerprint" || parent == "/hidden_generations") return;  // any keys
    Json without = whole;
    without[path.parent_pointer()].erase(path.back());
    refuse(without);
  });
  EXPECT_GT(damaged, 300);
}

TEST(RunState, NumbersBeyondWhatTheyCountAreRefused) {
  const Json whole = ParseJson(Saved(FullState()), "state.json");
  const std::pair<const char*, Json> cases[] = {
      {"/layers_done", 1},
      {"/layers_done", -1},
      {"/hidden_generations/original", 2},
      {"/hidden_generations/original", -1},
      {"/kept/groups/0/layer", -1},
      {"/kept/groups/0/group", kLinearGroupCount},
      {"/layers/0/linears/0/group", kLinearGroupCount},
      {"/layers/0/linears/0/group", -1},
      {"/layers/0/linears/0/role", static_cast<int>(kLastWeightRole) + 1},
      {"/layers/0/linears/0/role", (int64_t{1} << 32)},
      {"/layers/0/linears/0/elements", 4096.0},
      {"/layers/1/linears/2/saturated", nullptr},
  };
  for (const auto& [path, value] : cases) {
    SCOPED_TRACE(std::string(path) + " = " + value.dump());
    Json changed = whole;
    changed[Json::json_pointer(path)] = value;
    ExpectError(ErrorCode::kCorruptInput, "start over with --resume never",
                [&] { ParseRunState(changed.dump(), "state.json"); });
  }
}

TEST(RunState, AnotherVersionIsNotGuessedAt) {
  Json other = ParseJson(Saved(FullState()), "state.json");
  for (const int64_t format : {other.at("format").get<int64_t>() - 1, int64_t{99}}) {
    other["format"] = format;
    ExpectError(ErrorCode::kUnsupported, "another version of narrow",
                [&] { ParseRunState(other.dump(), "state.json"); });
  }
}

TEST(RunState, IsLoadedForItsOwnJobAlone) {
  const ScratchDirectory scratch;
  const std::filesystem::path path = scratch.path() / "state.json";
  const RunState full = FullState();
  EXPECT_FALSE(LoadRunState(path, full.fingerprint));
  SaveRunState(path, full);
  const std::optional<RunState> loaded = LoadRunState(path, full.fingerprint);
  ASSERT_TRUE(loaded);
  ExpectSame(*loaded, full);
  Fingerprint other = full.fingerprint;
  other["--max_kl"] = "0.1";
  ExpectError(ErrorCode::kInvalidArgument, "--max_kl was none, now it is 0.1",
              [&] { LoadRunState(path, other); });
  other = full.fingerprint;
  other["more"] = "1";
  ExpectError(ErrorCode::kInvalidArgument, "more was absent", [&] { LoadRunState(path, other); });
  std::filesystem::remove(path);
  std::filesystem::create_directory(path);
  ExpectError(ErrorCode::kCorruptInput, "start over",
              [&] { LoadRunState(path, full.fingerprint); });
}

}  // namespace
}  // namespace narrow
