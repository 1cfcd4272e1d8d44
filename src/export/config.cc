#include "export/config.h"

#include <map>
#include <string>

#include "base/error.h"

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
  if (!Has(source, "dtype") && !Has(source, "torch_dtype")) {
    config["torch_dtype"] = description.model_dtype;
  }
  if (description.own_head && OptionalBool(source, "tie_word_embeddings", "config.json") == true) {
    config["tie_word_embeddings"] = false;
  }
  config["quantization_config"] = format.quantization_config(description);
  return WithSortedKeys(config);
}

std::string RenderJsonFile(const Json& value) {
  return value.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

}  // namespace narrow
