#include "formats/config.h"

#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "io/config_dtype.h"

namespace narrow {
namespace {

// Depth is bounded by the parser the value came from.
Json WithSortedKeys(const Json& value) {
  if (value.is_array()) {
    Json array = Json::array();
    for (const Json& element : value) array.push_back(WithSortedKeys(element));
    return array;
  }
  if (!value.is_object()) return value;
  std::map<std::string, const Json*> members;
  for (const auto& [key, member] : value.items()) members.emplace(key, &member);
  Json object = Json::object();
  for (const auto& [key, member] : members) {
    object[key] = WithSortedKeys(*member);
  }
  return object;
}

bool Has(const Json& object, const char* key) {
  const auto member = object.find(key);
  return member != object.end() && !member->is_null();
}

}  // namespace

Json QuantizedConfig(const Json& source, const ExportFormat& format,
                     const QuantizedCheckpointDescription& description) {
  return WithQuantizationConfig(
      source, format.quantization_config(description),
      {description.own_head, description.architecture, description.model_dtype});
}

Json WithQuantizationConfig(const Json& source, const Json& quantization_config,
                            const StatedFacts& facts) {
  if (!source.is_object()) {
    Fail(ErrorCode::kCorruptInput, "config.json: expected an object, found {}", source.type_name());
  }
  for (const char* key : {"quantization_config", "compression_config"}) {
    if (Has(source, key)) {
      Fail(ErrorCode::kUnsupported,
           "config.json has '{}': the model is quantized already; start from the original", key);
    }
  }
  Json config = source;
  if (!StatedDtype(source)) {
    const char* key = source.contains("dtype") ? "dtype" : "torch_dtype";
    config.erase(key == std::string_view("dtype") ? "torch_dtype" : "dtype");
    config[key] = facts.model_dtype;
  }
  // vLLM does not go by model_type.
  if (const Json* given = OptionalArray(source, "architectures", "config.json");
      (given == nullptr || given->empty()) && !facts.architecture.empty()) {
    config["architectures"] = Json::array({facts.architecture});
  }
  if (facts.own_head && OptionalBool(source, "tie_word_embeddings", "config.json") == true) {
    config["tie_word_embeddings"] = false;
  }
  config["quantization_config"] = quantization_config;
  return WithSortedKeys(config);
}

}  // namespace narrow
