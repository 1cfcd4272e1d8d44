#include "import/metadata.h"

#include <cmath>

#include "base/error.h"
#include "io/json.h"
#include "text/utf8.h"

namespace narrow {
namespace {

void CheckUtf8(const std::string& text, std::string_view key, std::string_view what) {
  if (FindInvalidUtf8(text) >= 0) {
    Fail(ErrorCode::kCorruptInput, "{}: metadata {} holds {}, which is not valid UTF-8", what, key,
         Quoted(text));
  }
}

}  // namespace

const GgufValue* GgufMetadata::Find(std::string_view key) const {
  const auto found = header_.metadata.find(key);
  return found == header_.metadata.end() ? nullptr : &found->second;
}

void GgufMetadata::FailMissing(std::string_view key) const {
  Fail(ErrorCode::kCorruptInput, "{}: metadata {} is missing", what_, key);
}

template <typename T>
const T* GgufMetadata::Get(std::string_view key, std::string_view expected) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return nullptr;
  const T* typed = std::get_if<T>(value);
  if (typed == nullptr) {
    Fail(ErrorCode::kCorruptInput, "{}: metadata {} should be {}", what_, key, expected);
  }
  return typed;
}

std::optional<int64_t> GgufMetadata::OptionalInt(std::string_view key) const {
  const auto* value = Get<int64_t>(key, "an integer below 2^63");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<double> GgufMetadata::OptionalNumber(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value != nullptr && std::holds_alternative<int64_t>(*value)) {
    return static_cast<double>(std::get<int64_t>(*value));
  }
  const auto* number = Get<double>(key, "a number");
  if (number == nullptr) return std::nullopt;
  if (!std::isfinite(*number)) {
    Fail(ErrorCode::kCorruptInput, "{}: metadata {} is {}, expected a finite number", what_, key,
         *number);
  }
  return *number;
}

std::optional<bool> GgufMetadata::OptionalBool(std::string_view key) const {
  const auto* value = Get<bool>(key, "a boolean");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<std::string> GgufMetadata::OptionalString(std::string_view key) const {
  const auto* value = Get<std::string>(key, "a string");
  if (value == nullptr) return std::nullopt;
  CheckUtf8(*value, key, what_);
  return *value;
}

int64_t GgufMetadata::Int(std::string_view key) const {
  const auto value = OptionalInt(key);
  if (!value) FailMissing(key);
  return *value;
}

double GgufMetadata::Number(std::string_view key) const {
  const auto value = OptionalNumber(key);
  if (!value) FailMissing(key);
  return *value;
}

std::string GgufMetadata::String(std::string_view key) const {
  auto value = OptionalString(key);
  if (!value) FailMissing(key);
  return *std::move(value);
}

const std::vector<std::string>* GgufMetadata::OptionalStrings(std::string_view key) const {
  const auto* values = Get<std::vector<std::string>>(key, "an array of strings");
  if (values != nullptr) {
    for (const std::string& value : *values) CheckUtf8(value, key, what_);
  }
  return values;
}

const std::vector<int64_t>* GgufMetadata::OptionalInts(std::string_view key) const {
  return Get<std::vector<int64_t>>(key, "an array of integers");
}

const std::vector<double>* GgufMetadata::OptionalNumbers(std::string_view key) const {
  return Get<std::vector<double>>(key, "an array of floating-point numbers");
}

}  // namespace narrow
