// JSON from outside: bounded in size and depth, valid UTF-8, no duplicate keys, checked access.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace narrow {

// Keeps the key order of the file. Looking a key up takes time linear in the size of the object:
// walk large objects (vocabularies, weight maps) with items() instead.
using Json = nlohmann::ordered_json;

// Python writes numbers that are none as NaN, Infinity and -Infinity, which JSON does not have, and
// reads them. Members of the typed access below that hold one are refused by name.
enum class NonFinite { kAccepted, kRefused };

struct JsonLimits {
  int max_depth = 64;
  int64_t max_bytes = int64_t{1} << 30;
  NonFinite non_finite = NonFinite::kAccepted;  // refused where others read with a strict parser
};

// Parses `text`. `what` names the source in messages ("config.json of X").
// Throws: kCorruptInput (syntax with line and column, depth, bad UTF-8, duplicate key, size).
Json ParseJson(std::string_view text, std::string_view what, const JsonLimits& limits = {});

// Reads and parses a file. Throws as ReadWholeFile and ParseJson do.
Json ReadJsonFile(const std::string& path, const JsonLimits& limits = {});

// `text` as a JSON string literal. Throws: kInvalidArgument when it is not valid UTF-8.
std::string JsonLiteral(const std::string& text);

// `text` between quotation marks for a message: at most 120 bytes, printable ASCII, one line,
// whatever the file it comes from holds.
std::string Quoted(std::string_view text);

// Typed access to members of an object: the message names `what` and the key, what was expected and
// what was found. A missing key gives nothing in the optional forms (so does null) and throws
// kCorruptInput in the required ones; a value of another type, NaN and infinity always throw.
std::optional<int64_t> OptionalInt(const Json& object, std::string_view key, std::string_view what);
std::optional<double> OptionalNumber(const Json& object, std::string_view key,
                                     std::string_view what);
std::optional<bool> OptionalBool(const Json& object, std::string_view key, std::string_view what);
std::optional<std::string> OptionalString(const Json& object, std::string_view key,
                                          std::string_view what);
int64_t RequiredInt(const Json& object, std::string_view key, std::string_view what);
double RequiredNumber(const Json& object, std::string_view key, std::string_view what);
std::string RequiredString(const Json& object, std::string_view key, std::string_view what);
// The member as object or array, checked; null when absent.
const Json* OptionalObject(const Json& object, std::string_view key, std::string_view what);
const Json* OptionalArray(const Json& object, std::string_view key, std::string_view what);

// The bytes of a JSON file: indented by two, a newline at the end.
std::string RenderJsonFile(const Json& value);

}  // namespace narrow
