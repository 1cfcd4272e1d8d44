#include "io/json.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/file.h"

namespace narrow {
namespace {

constexpr std::size_t kMaxQuotedBytes = 120;

struct Position {
  int64_t line = 1;
  int64_t column = 1;
};

Position PositionOf(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const std::size_t newline = before.rfind('\n');
  const std::size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
  return {1 + std::count(before.begin(), before.end(), '\n'),
          1 + static_cast<int64_t>(before.size() - line_start)};
}

// Offset of the bracket that opens level `depth`. Only called for text that has one.
std::size_t OffsetOfDepth(std::string_view text, int depth) {
  int level = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++level == depth) return i;
    } else if (c == ']' || c == '}') {
      --level;
    }
  }
  return text.size();
}

// True when `word` is at `offset` and no part of a longer one.
bool IsWordAt(std::string_view text, std::size_t offset, std::string_view word) {
  const auto joins = [&](std::size_t i) {
    return i < text.size() && (std::isalnum(static_cast<unsigned char>(text[i])) != 0 ||
                               text[i] == '_' || text[i] == '.' || text[i] == '+');
  };
  return text.substr(offset).starts_with(word) && !(offset > 0 && joins(offset - 1)) &&
         !joins(offset + word.size());
}

constexpr std::string_view kNan = "NaN";
constexpr std::string_view kInfinity = "Infinity";

// The parser does not know NaN and Infinity: they become numbers of the same length with a capital
// E, and every other E outside strings a small one, which means the same.
std::string SpellNonFinite(std::string_view text) {
  std::string spelled(text);
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (in_string) {
      continue;
    } else if (c == 'E') {
      spelled[i] = 'e';
    } else if (IsWordAt(text, i, kNan) && !(i > 0 && text[i - 1] == '-')) {
      spelled.replace(i, kNan.size(), "0E0");
      i += kNan.size() - 1;
    } else if (IsWordAt(text, i, kInfinity)) {
      spelled.replace(i, kInfinity.size(), "1E+00000");
      i += kInfinity.size() - 1;
    }
  }
  return spelled;
}

// A number whose text is one of those that SpellNonFinite made.
double NonFiniteNumber(double spelled) {
  return spelled == 0.0 ? std::numeric_limits<double>::quiet_NaN()
                        : std::copysign(std::numeric_limits<double>::infinity(), spelled);
}

// Builds the document bottom-up from parser events. Members are collected per open container and
// moved into place when it closes, because inserting into an ordered_json object searches it: a
// vocabulary of 128k keys would cost 10^10 comparisons.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  enum class CapitalE { kExponent, kNonFinite };  // what it means in a number
  Builder(std::string_view text, std::string_view what, int max_depth, CapitalE capital_e)
      : text_(text), what_(what), max_depth_(max_depth), capital_e_(capital_e) {}

  Json TakeResult() { return std::move(result_); }

  bool null() override { return Add(Json(nullptr)); }
  bool boolean(bool value) override { return Add(Json(value)); }
  bool number_integer(number_integer_t value) override { return Add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Add(Json(value)); }
  bool number_float(number_float_t value, const string_t& text) override {
    const bool none = capital_e_ == CapitalE::kNonFinite && text.find('E') != std::string::npos;
    return Add(Json(none ? NonFiniteNumber(value) : value));
  }
  bool string(string_t& value) override { return Add(Json(std::move(value))); }
  bool binary(binary_t&) override { return false; }  // never in JSON text
  bool key(string_t& value) override {
    open_.back().keys.push_back(std::move(value));
    return true;
  }
  bool start_object(std::size_t) override { return Open(); }
  bool start_array(std::size_t) override { return Open(); }
  bool end_object() override;
  bool end_array() override;
  bool parse_error(std::size_t offset, const std::string&,
                   const nlohmann::detail::exception& error) override;

 private:
  struct Container {
    std::vector<std::string> keys;  // of an object: as many as values, once it closes
    std::vector<Json> values;
  };

  bool Open();
  bool Add(Json value);
  Container Close();
  void RefuseDuplicates(const std::vector<std::string>& keys) const;

  std::string_view text_;
  std::string_view what_;
  int max_depth_;
  CapitalE capital_e_;
  std::vector<Container> open_;
  Json result_;
};

bool Builder::Open() {
  if (static_cast<int>(open_.size()) >= max_depth_) {
    const Position at = PositionOf(text_, OffsetOfDepth(text_, max_depth_ + 1));
    Fail(ErrorCode::kCorruptInput, "{}: JSON nested deeper than {} levels at line {}, column {}",
         what_, max_depth_, at.line, at.column);
  }
  open_.emplace_back();
  return true;
}

bool Builder::Add(Json value) {
  if (open_.empty()) {
    result_ = std::move(value);
  } else {
    open_.back().values.push_back(std::move(value));
  }
  return true;
}

Builder::Container Builder::Close() {
  Container closed = std::move(open_.back());
  open_.pop_back();
  return closed;
}

bool Builder::end_object() {
  Container closed = Close();
  RefuseDuplicates(closed.keys);
  Json object = Json::object();
  auto& members = object.get_ref<Json::object_t&>();
  members.reserve(closed.keys.size());
  for (std::size_t i = 0; i < closed.keys.size(); ++i) {
    members.emplace_back(std::move(closed.keys[i]), std::move(closed.values[i]));
  }
  return Add(std::move(object));
}

bool Builder::end_array() {
  Container closed = Close();
  Json array = Json::array();
  array.get_ref<Json::array_t&>() = std::move(closed.values);
  return Add(std::move(array));
}

void Builder::RefuseDuplicates(const std::vector<std::string>& keys) const {
  std::unordered_set<std::string_view> seen;
  seen.reserve(keys.size());
  for (const std::string& key : keys) {
    if (!seen.insert(key).second) {
      Fail(ErrorCode::kCorruptInput, "{}: JSON object has the key {} twice", what_, Quoted(key));
    }
  }
}

bool Builder::parse_error(std::size_t offset, const std::string&,
                          const nlohmann::detail::exception& error) {
  // The library's text is "[id] parse error at line L, column C: reason; last read: ...": what was
  // read may be long or unprintable, so only the reason is kept.
  std::string_view reason = error.what();
  if (const std::size_t place = reason.find(", column "); place != std::string_view::npos) {
    reason.remove_prefix(std::min(reason.size(), reason.find(": ", place) + 2));
  } else if (const std::size_t id = reason.find("] "); id != std::string_view::npos) {
    reason.remove_prefix(id + 2);
  }
  reason = reason.substr(0, reason.find("; last read"));
  // The library counts the bytes it has read, so the culprit is the one before.
  const Position at = PositionOf(text_, offset == 0 ? 0 : offset - 1);
  Fail(ErrorCode::kCorruptInput, "{}: not valid JSON at line {}, column {}: {}", what_, at.line,
       at.column, reason.substr(0, 160));
}

std::string_view KindOf(const Json& value) {
  if (value.is_number_integer()) return "an integer";
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      break;
  }
  const auto number = value.get<double>();
  if (std::isnan(number)) return kNan;
  return std::isinf(number) ? kInfinity : "a number";
}

// The member, or null when it is absent or null.
const Json* Member(const Json& object, std::string_view key, std::string_view what) {
  if (!object.is_object()) {
    Fail(ErrorCode::kCorruptInput, "{}: expected an object with \"{}\", found {}", what, key,
         KindOf(object));
  }
  const auto found = object.find(std::string(key));
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

[[noreturn]] void FailKind(const Json& value, std::string_view key, std::string_view what,
                           std::string_view expected) {
  Fail(ErrorCode::kCorruptInput, "{}: \"{}\" should be {}, found {}", what, key, expected,
       KindOf(value));
}

template <typename T>
T Require(std::optional<T> value, const Json& object, std::string_view key, std::string_view what) {
  if (!value) {
    Fail(ErrorCode::kCorruptInput, "{}: \"{}\" is {}", what, key,
         object.contains(std::string(key)) ? "null" : "missing");
  }
  return *std::move(value);
}

}  // namespace

Json ParseJson(std::string_view text, std::string_view what, const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.max_bytes) {
    Fail(ErrorCode::kCorruptInput, "{}: {} bytes of JSON, at most {} are accepted", what,
         text.size(), limits.max_bytes);
  }
  std::string spelled;
  auto capital_e = Builder::CapitalE::kExponent;
  if (limits.non_finite == NonFinite::kAccepted &&
      (text.find(kNan) != std::string_view::npos ||
       text.find(kInfinity) != std::string_view::npos)) {
    spelled = SpellNonFinite(text);
    text = spelled;
    capital_e = Builder::CapitalE::kNonFinite;
  }
  Builder builder(text, what, limits.max_depth, capital_e);
  const bool complete = Json::sax_parse(text.begin(), text.end(), &builder);
  NARROW_CHECK(complete);  // every refusal of the builder throws
  return builder.TakeResult();
}

Json ReadJsonFile(const std::string& path, const JsonLimits& limits) {
  return ParseJson(ReadWholeFile(path, limits.max_bytes), path, limits);
}

std::string JsonLiteral(const std::string& text) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    Fail(ErrorCode::kInvalidArgument, "{} is not valid UTF-8", Quoted(text));
  }
}

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text.substr(0, kMaxQuotedBytes)) {
    const bool printable = c >= 0x20 && c != 0x7F;  // char is signed: bytes above 0x7F fail too
    quoted += printable ? c : '?';
  }
  quoted += text.size() > kMaxQuotedBytes ? "...\"" : "\"";
  return quoted;
}

std::optional<int64_t> OptionalInt(const Json& object, std::string_view key,
                                   std::string_view what) {
  const Json* value = Member(object, key, what);
  if (value == nullptr) return std::nullopt;
  const bool too_large =
      value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (!value->is_number_integer() || too_large) FailKind(*value, key, what, "a 64-bit integer");
  return value->get<int64_t>();
}

std::optional<double> OptionalNumber(const Json& object, std::string_view key,
                                     std::string_view what) {
  const Json* value = Member(object, key, what);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) FailKind(*value, key, what, "a number");
  const auto number = value->get<double>();
  if (!std::isfinite(number)) FailKind(*value, key, what, "a finite number");
  return number;
}

std::optional<bool> OptionalBool(const Json& object, std::string_view key, std::string_view what) {
  const Json* value = Member(object, key, what);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) FailKind(*value, key, what, "true or false");
  return value->get<bool>();
}

std::optional<std::string> OptionalString(const Json& object, std::string_view key,
                                          std::string_view what) {
  const Json* value = Member(object, key, what);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) FailKind(*value, key, what, "a string");
  return value->get<std::string>();
}

int64_t RequiredInt(const Json& object, std::string_view key, std::string_view what) {
  return Require(OptionalInt(object, key, what), object, key, what);
}

double RequiredNumber(const Json& object, std::string_view key, std::string_view what) {
  return Require(OptionalNumber(object, key, what), object, key, what);
}

std::string RequiredString(const Json& object, std::string_view key, std::string_view what) {
  return Require(OptionalString(object, key, what), object, key, what);
}

const Json* OptionalObject(const Json& object, std::string_view key, std::string_view what) {
  const Json* value = Member(object, key, what);
  if (value != nullptr && !value->is_object()) FailKind(*value, key, what, "an object");
  return value;
}

const Json* OptionalArray(const Json& object, std::string_view key, std::string_view what) {
  const Json* value = Member(object, key, what);
  if (value != nullptr && !value->is_array()) FailKind(*value, key, what, "an array");
  return value;
}

std::string RenderJsonFile(const Json& value) {
  return value.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

}  // namespace narrow
