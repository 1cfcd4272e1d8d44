#include "import/rope_scaling.h"

#include <cmath>
#include <numbers>
#include <optional>

#include "base/error.h"
#include "import/shortest_decimal.h"

namespace narrow {
namespace {

constexpr double kLowFrequencyFactor = 1;
constexpr double kHighFrequencyFactor = 4;
constexpr double kOriginalPositions = 8192;
// The tensor was computed in f32; where the two regimes blend its error grows by about the factor.
constexpr double kTolerance = 1e-4;

double Positive(const GgufMetadata& metadata, const std::string& key) {
  const double value = metadata.Number(key);
  if (value > 0) return value;
  Fail(ErrorCode::kCorruptInput, "{}: {} is {}; expected a positive number", metadata.what(), key,
       value);
}

Json LinearJson(const GgufMetadata& metadata, const GgufModel& model, bool typed) {
  const double factor =
      metadata.Number(model.Key(typed ? "rope.scaling.factor" : "rope.scale_linear"));
  if (factor == 1) return nullptr;
  if (factor < 1) {
    Fail(ErrorCode::kCorruptInput, "{}: rope scaling factor {} is below 1", metadata.what(),
         factor);
  }
  return {{"factor", ShortestDecimal(factor)}, {"rope_type", "linear"}, {"type", "linear"}};
}

Json YarnJson(const GgufMetadata& metadata, const GgufModel& model) {
  const std::string mix = model.Key("rope.scaling.yarn_ext_factor");
  if (const double value = metadata.OptionalNumber(mix).value_or(1); value != 1) {
    Fail(ErrorCode::kUnsupported, "{}: {} is {}; expected 1", metadata.what(), mix, value);
  }
  Json yarn = Json::object();
  const auto add = [&](const char* name, const char* key) {
    const std::optional<double> value = metadata.OptionalNumber(model.Key(key));
    if (value) yarn[name] = ShortestDecimal(*value);
  };
  add("attention_factor", "rope.scaling.yarn_attn_factor");
  add("beta_fast", "rope.scaling.yarn_beta_fast");
  add("beta_slow", "rope.scaling.yarn_beta_slow");
  yarn["factor"] = ShortestDecimal(Positive(metadata, model.Key("rope.scaling.factor")));
  yarn["original_max_position_embeddings"] =
      metadata.Int(model.Key("rope.scaling.original_context_length"));
  yarn["rope_type"] = "yarn";
  yarn["type"] = "yarn";
  return yarn;
}

Json Decimals(const std::vector<float>& values) {
  Json list = Json::array();
  for (const float value : values) list.push_back(ShortestDecimal(value));
  return list;
}

// attn_factor is what transformers makes of the two lengths where the config does not say.
Json LongropeJson(const GgufMetadata& metadata, const GgufModel& model) {
  const std::string key = model.Key("rope.scaling.original_context_length");
  const int64_t original = metadata.Int(key);
  if (model.long_factors.empty() || model.short_factors.empty() || original < 2) {
    Fail(ErrorCode::kCorruptInput,
         "{}: longrope needs rope_factors_long.weight, rope_factors_short.weight and {} above 1",
         metadata.what(), key);
  }
  const double grown = static_cast<double>(model.context) / static_cast<double>(original);
  const double implied =
      grown <= 1 ? 1 : std::sqrt(1 + std::log(grown) / std::log(static_cast<double>(original)));
  const double stored =
      metadata.OptionalNumber(model.Key("rope.scaling.attn_factor")).value_or(implied);
  Json longrope = {{"long_factor", Decimals(model.long_factors)},
                   {"rope_type", "longrope"},
                   {"short_factor", Decimals(model.short_factors)},
                   {"type", "longrope"}};
  if (std::abs(stored - implied) > kTolerance) {
    longrope["attention_factor"] = ShortestDecimal(stored);
  }
  return longrope;
}

// The low frequencies, which come last, are divided by the factor.
Json Llama3Json(const GgufMetadata& metadata, const GgufModel& model) {
  const double factor = std::round(static_cast<double>(model.rope_factors.back()));
  const std::vector<double> expected = Llama3RopeFactors(model.rope_theta, model.rotated, factor);
  bool equal = factor > 1;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    equal = equal && std::abs(model.rope_factors[i] - expected[i]) <= kTolerance * expected[i];
  }
  if (!equal) {
    Fail(ErrorCode::kUnsupported,
         "{}: rope_freqs.weight is not Llama 3.1 scaling by a whole factor from 8192 positions",
         metadata.what());
  }
  return {{"factor", factor},
          {"high_freq_factor", kHighFrequencyFactor},
          {"low_freq_factor", kLowFrequencyFactor},
          {"original_max_position_embeddings", static_cast<int64_t>(kOriginalPositions)},
          {"rope_type", "llama3"}};
}

}  // namespace

std::vector<double> Llama3RopeFactors(double theta, int64_t head_dim, double factor) {
  std::vector<double> factors;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(head_dim);
    const double wavelength = 2 * std::numbers::pi * std::pow(theta, exponent);
    const double turns = kOriginalPositions / wavelength;
    if (turns > kHighFrequencyFactor) {
      factors.push_back(1);
    } else if (turns < kLowFrequencyFactor) {
      factors.push_back(factor);
    } else {
      const double smooth =
          (turns - kLowFrequencyFactor) / (kHighFrequencyFactor - kLowFrequencyFactor);
      factors.push_back(1 / ((1 - smooth) / factor + smooth));
    }
  }
  return factors;
}

Json RopeScalingJson(const GgufMetadata& metadata, const GgufModel& model) {
  const std::string& what = metadata.what();
  const std::string type = metadata.OptionalString(model.Key("rope.scaling.type")).value_or("none");
  const bool scaled = !model.rope_factors.empty();
  // Files from before the type was stored have a key of their own for the linear factor.
  const bool linear =
      type == "linear" || (type == "none" && metadata.Has(model.Key("rope.scale_linear")));
  const bool longrope = type == "longrope" || !model.long_factors.empty();
  if (scaled && (linear || longrope || type == "yarn")) {
    Fail(ErrorCode::kUnsupported, "{}: both {} rope scaling and rope_freqs.weight", what, type);
  }
  if (longrope) return LongropeJson(metadata, model);
  if (linear) return LinearJson(metadata, model, type == "linear");
  if (type == "yarn") return YarnJson(metadata, model);
  if (type != "none") {
    Fail(ErrorCode::kUnsupported,
         "{}: rope scaling {}; linear, yarn, longrope and Llama 3.1's are handled", what,
         Quoted(type));
  }
  return scaled ? Llama3Json(metadata, model) : Json(nullptr);
}

}  // namespace narrow
