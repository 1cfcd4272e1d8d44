#include "hub/settings.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "hub/url.h"
#include "io/file.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPublicEndpoint = "https://huggingface.co";
constexpr int64_t kMaxTokenBytes = 64 * 1024;

// Empty variables count as not set.
std::optional<std::string> Variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

std::optional<std::string> FirstOf(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (auto value = Variable(name)) return value;
  }
  return std::nullopt;
}

bool IsTrue(const std::optional<std::string>& value) {
  std::string upper = value.value_or("");
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return upper == "1" || upper == "ON" || upper == "YES" || upper == "TRUE";
}

// A path of a variable; "~" at its beginning is the home directory.
fs::path Expand(const std::string& path) {
  const auto home = Variable("HOME");
  if (home && (path == "~" || path.starts_with("~/"))) return *home + path.substr(1);
  return path;
}

std::optional<fs::path> Home() {
  if (const auto home = Variable("HF_HOME")) return Expand(*home);
  if (const auto cache = Variable("XDG_CACHE_HOME")) return Expand(*cache) / "huggingface";
  if (const auto home = Variable("HOME")) return fs::path(*home) / ".cache" / "huggingface";
  return std::nullopt;
}

std::string Trimmed(std::string text) {
  constexpr std::string_view kBlank = " \t\r\n";
  text.erase(0, std::min(text.find_first_not_of(kBlank), text.size()));
  text.erase(text.find_last_not_of(kBlank) + 1);
  return text;
}

std::optional<std::string> ReadToken(const std::optional<fs::path>& home) {
  if (IsTrue(Variable("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) return std::nullopt;
  std::optional<std::string> token = FirstOf({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"});
  std::string source = "$HF_TOKEN";
  const auto named = Variable("HF_TOKEN_PATH");
  if (!token && (named || home)) {
    const fs::path path = named ? Expand(*named) : *home / "token";
    source = path.string();
    std::error_code ignored;
    if (fs::is_regular_file(path, ignored)) token = ReadWholeFile(path, kMaxTokenBytes);
  }
  if (!token) return std::nullopt;
  token = Trimmed(*std::move(token));
  if (token->empty()) return std::nullopt;
  if (std::any_of(token->begin(), token->end(), [](char c) { return c <= 0x20 || c == 0x7F; })) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: a token is one word of printable ASCII; log in again, or correct it", source);
  }
  return token;
}

std::chrono::milliseconds StallLimit(std::chrono::milliseconds standard) {
  const auto text = Variable("HF_HUB_DOWNLOAD_TIMEOUT");
  int seconds = 0;
  if (!text ||
      std::from_chars(text->data(), text->data() + text->size(), seconds).ec != std::errc() ||
      seconds < 1 || seconds > 86400) {
    return standard;
  }
  return std::chrono::seconds(seconds);
}

}  // namespace

HubSettings HubSettingsFromEnvironment() {
  HubSettings settings;
  settings.endpoint = Variable("HF_ENDPOINT").value_or(kPublicEndpoint);
  while (settings.endpoint.ends_with('/')) settings.endpoint.pop_back();
  static_cast<void>(OriginOf(settings.endpoint, "$HF_ENDPOINT"));
  const std::optional<fs::path> home = Home();
  if (const auto cache = FirstOf({"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})) {
    settings.cache = Expand(*cache);
  } else if (home) {
    settings.cache = *home / "hub";
  } else {
    Fail(ErrorCode::kNotFound,
         "the cache of the hub has no place: $HF_HUB_CACHE, $HF_HOME, $XDG_CACHE_HOME and $HOME "
         "are not set; set one of them");
  }
  settings.cache = fs::absolute(settings.cache);
  settings.token = ReadToken(home);
  settings.offline = IsTrue(FirstOf({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}));
  settings.stall = StallLimit(settings.stall);
  return settings;
}

}  // namespace narrow
