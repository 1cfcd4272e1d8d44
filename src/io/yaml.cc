#include "io/yaml.h"

#include <yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <new>
#include <string>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxKeys = 1000;  // looking one up takes time linear in their number

// One event of libyaml, freed with the object.
class Event {
 public:
  Event(yaml_parser_t& parser, std::string_view what) {
    if (yaml_parser_parse(&parser, &event_) != 0) return;
    Fail(ErrorCode::kCorruptInput, "{}: no YAML: {} at line {}", what,
         parser.problem == nullptr ? "out of memory" : parser.problem,
         parser.problem_mark.line + 1);
  }
  ~Event() { yaml_event_delete(&event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  const yaml_event_t& get() const { return event_; }

 private:
  yaml_event_t event_ = {};
};

Json PlainScalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null") return nullptr;
  if (text == "true" || text == "false") return text == "true";
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool all = error == std::errc() && end == text.data() + text.size();
  return all && std::isfinite(number) ? Json(number) : Json(text);
}

class YamlReader {
 public:
  YamlReader(std::string_view text, std::string_view what) : what_(what) {
    if (yaml_parser_initialize(&parser_) == 0) throw std::bad_alloc();
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                 text.size());
  }
  ~YamlReader() { yaml_parser_delete(&parser_); }
  YamlReader(const YamlReader&) = delete;
  YamlReader& operator=(const YamlReader&) = delete;

  Json Document() {
    Skip(YAML_STREAM_START_EVENT);
    {
      const Event event(parser_, what_);
      if (event.get().type == YAML_STREAM_END_EVENT) return nullptr;
    }
    Json value;
    {
      const Event event(parser_, what_);
      value = Value(event.get(), 0);
    }
    Skip(YAML_DOCUMENT_END_EVENT);
    Skip(YAML_STREAM_END_EVENT);
    return value;
  }

 private:
  void Skip(yaml_event_type_t type) {
    const Event event(parser_, what_);
    if (event.get().type != type) Refuse(event.get(), "more than one document");
  }

  Json Value(const yaml_event_t& event, int depth) {
    if (depth > kMaxDepth) Refuse(event, "more than 64 levels");
    switch (event.type) {
      case YAML_SCALAR_EVENT: {
        if (event.data.scalar.anchor != nullptr) Refuse(event, "an anchor");
        std::string text = Text(event);
        const bool plain =
            event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && event.data.scalar.tag == nullptr;
        return plain ? PlainScalar(text) : Json(std::move(text));
      }
      case YAML_SEQUENCE_START_EVENT:
        if (event.data.sequence_start.anchor != nullptr) Refuse(event, "an anchor");
        return Sequence(depth);
      case YAML_MAPPING_START_EVENT:
        if (event.data.mapping_start.anchor != nullptr) Refuse(event, "an anchor");
        return Mapping(depth);
      default:
        Refuse(event, "an alias");
    }
  }

  Json Sequence(int depth) {
    Json array = Json::array();
    while (true) {
      const Event event(parser_, what_);
      if (event.get().type == YAML_SEQUENCE_END_EVENT) return array;
      array.push_back(Value(event.get(), depth + 1));
    }
  }

  Json Mapping(int depth) {
    Json object = Json::object();
    while (true) {
      std::string key;
      {
        const Event event(parser_, what_);
        if (event.get().type == YAML_MAPPING_END_EVENT) return object;
        if (event.get().type != YAML_SCALAR_EVENT) Refuse(event.get(), "a key that is no scalar");
        key = Text(event.get());
        if (object.size() == kMaxKeys) Refuse(event.get(), "more than 1000 keys");
      }
      const Event event(parser_, what_);
      object[key] = Value(event.get(), depth + 1);
    }
  }

  static std::string Text(const yaml_event_t& event) {
    return {reinterpret_cast<const char*>(event.data.scalar.value), event.data.scalar.length};
  }

  [[noreturn]] void Refuse(const yaml_event_t& event, const char* found) const {
    Fail(ErrorCode::kCorruptInput, "{}: expected plain YAML, found {} at line {}", what_, found,
         event.start_mark.line + 1);
  }

  yaml_parser_t parser_ = {};
  const std::string what_;
};

// The length of the line end that `text` begins with; 0 when it begins with something else.
std::size_t LineEnd(std::string_view text) {
  if (text.starts_with("\r\n")) return 2;
  return text.starts_with('\n') || text.starts_with('\r') ? 1 : 0;
}

}  // namespace

Json ParseYaml(std::string_view text, std::string_view what) {
  if (std::cmp_greater(text.size(), kMaxYamlBytes)) {
    Fail(ErrorCode::kCorruptInput, "{}: {} bytes of YAML, at most {}", what, text.size(),
         kMaxYamlBytes);
  }
  return YamlReader(text, what).Document();
}

std::optional<std::string_view> FrontMatterOf(std::string_view card) {
  card.remove_prefix(std::min(card.find_first_not_of(" \t\r\n\f\v"), card.size()));
  if (!card.starts_with("---")) return std::nullopt;
  card.remove_prefix(3);
  const std::size_t first = LineEnd(card);
  if (first == 0) return std::nullopt;
  card.remove_prefix(first);
  for (std::size_t at = card.find_first_of("\r\n"); at != card.npos;
       at = card.find_first_of("\r\n", at + 1)) {
    std::string_view rest = card.substr(at + LineEnd(card.substr(at)));
    if (!rest.starts_with("---")) continue;
    rest.remove_prefix(3);
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
    if (rest.empty() || rest.starts_with('\n') || rest.starts_with("\r\n")) {
      return card.substr(0, at);
    }
  }
  return std::nullopt;
}

}  // namespace narrow
