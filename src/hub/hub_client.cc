#include "hub/hub_client.h"

#include <set>

#include "base/error.h"
#include "hub/retry.h"
#include "hub/url.h"
#include "io/json.h"

namespace narrow {
namespace {

constexpr std::size_t kMaxAnswerBytes = std::size_t{64} << 20;
constexpr int kMaxPages = 10'000;
constexpr std::size_t kMaxFiles = 1'000'000;

const char* ApiFolder(RepositoryName::Kind kind) {
  return kind == RepositoryName::Kind::kModel ? "models" : "datasets";
}

// The address of rel="next" in a Link header; empty: this was the last page.
std::string NextPage(const HttpResponse& response) {
  const auto found = response.headers.find("link");
  if (found == response.headers.end()) return "";
  std::string_view rest = found->second;
  while (!rest.empty()) {
    const std::size_t open = rest.find('<');
    const std::size_t close = rest.find('>', open == rest.npos ? 0 : open);
    if (open == rest.npos || close == rest.npos) return "";
    const std::size_t end = std::min(rest.find(',', close), rest.size());
    const std::string_view attributes = rest.substr(close, end - close);
    if (attributes.find("rel=\"next\"") != attributes.npos ||
        attributes.find("rel=next") != attributes.npos) {
      return ResolveUrl(response.url, std::string(rest.substr(open + 1, close - open - 1)));
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return "";
}

HubFile ParseFile(const Json& entry, const std::string& what) {
  HubFile file;
  file.path = RequiredString(entry, "path", what);
  if (!IsSafePath(file.path)) {
    Fail(ErrorCode::kCorruptInput,
         "{}: the name {} leads out of the directory or is no file name; nothing was written", what,
         Quoted(file.path));
  }
  file.size = RequiredInt(entry, "size", what);
  file.blob = RequiredString(entry, "oid", what);
  if (const Json* lfs = OptionalObject(entry, "lfs", what)) {
    file.large = true;
    file.blob = RequiredString(*lfs, "oid", what);
    file.size = RequiredInt(*lfs, "size", what);
  }
  if (!IsHexadecimal(file.blob, file.large ? 64 : 40) || file.size < 0) {
    Fail(ErrorCode::kCorruptInput, "{}: {} has no digest or no size that could be right", what,
         Quoted(file.path));
  }
  return file;
}

void AddPage(const Json& page, const std::string& what, std::set<std::string>& seen,
             HubListing& listing) {
  if (!page.is_array()) {
    Fail(ErrorCode::kCorruptInput, "{}: expected a list of files; is HF_ENDPOINT a hub?", what);
  }
  for (const Json& entry : page) {
    if (!entry.is_object()) Fail(ErrorCode::kCorruptInput, "{}: an entry is no object", what);
    if (RequiredString(entry, "type", what) != "file") continue;
    HubFile file = ParseFile(entry, what);
    if (!seen.insert(file.path).second || seen.size() > kMaxFiles) {
      Fail(ErrorCode::kCorruptInput, "{}: {} is listed twice, or there are too many files", what,
           Quoted(file.path));
    }
    listing.files.push_back(std::move(file));
  }
}

std::string HeaderOf(const HttpResponse& response, std::string_view name) {
  const auto found = response.headers.find(name);
  return found == response.headers.end() ? "" : found->second;
}

}  // namespace

void FailStatus(const HubSettings& settings, const RepositoryName& name,
                const HttpResponse& response, const std::string& what) {
  const std::string code = HeaderOf(response, "x-error-code");
  const char* access = settings.token ? "the token in use may not read it: check the token's rights"
                                      : "log in with `hf auth login`, or set HF_TOKEN";
  if (code == "GatedRepo" || (response.status == 403 && code.empty())) {
    Fail(ErrorCode::kNotFound,
         "{}: access is restricted (status {}): ask for it on {}/{}{}, then {}", name.Shown(),
         response.status, settings.endpoint,
         name.kind == RepositoryName::Kind::kDataset ? "datasets/" : "", name.id, access);
  }
  if (code == "RevisionNotFound") {
    Fail(ErrorCode::kNotFound, "{}: there is no revision {}", name.id, Quoted(name.revision));
  }
  if (code == "EntryNotFound") {
    Fail(ErrorCode::kNotFound, "{}: there is no {}", name.Shown(), what);
  }
  if (response.status == 401 && settings.token &&
      HeaderOf(response, "x-error-message").starts_with("Invalid credentials")) {
    Fail(ErrorCode::kNotFound,
         "{}: the hub does not take the token (HF_TOKEN, or the one of `hf "
         "auth login`): log in again, or unset it",
         name.Shown());
  }
  if (response.status == 401 || response.status == 403) {
    Fail(ErrorCode::kNotFound,
         "{}: there is no such repository, or it is private or gated (status {}): check the name; "
         "{}",
         name.Shown(), response.status, access);
  }
  if (response.status == 404 || response.status == 410) {
    Fail(ErrorCode::kNotFound,
         "{}: not found on {} ({}, status {}): check the name; a private repository needs a token",
         name.Shown(), settings.endpoint, what, response.status);
  }
  Fail(ErrorCode::kIo, "{}: {} answered {} with status {}", name.Shown(), ShownUrl(response.url),
       what, response.status);
}

std::string FileUrl(const HubSettings& settings, const RepositoryName& name,
                    const std::string& commit, const std::string& path) {
  return fmt::format("{}/{}{}/resolve/{}/{}", settings.endpoint,
                     name.kind == RepositoryName::Kind::kDataset ? "datasets/" : "", name.id,
                     EscapeSegment(commit), EscapePath(path));
}

HubClient::HubClient(const HubSettings& settings) : settings_(settings), session_(settings) {
  if (settings.offline) {
    Fail(ErrorCode::kNotFound,
         "HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids asking the hub: unset it");
  }
}

std::string HubClient::GetText(const RepositoryName& name, const std::string& url,
                               HttpResponse& response) {
  Retry retry(settings_);
  for (;;) {
    std::string text;
    const HttpOutcome outcome =
        session_.Get(url, std::nullopt, [&](const HttpResponse&, std::string_view piece) {
          if (text.size() + piece.size() > kMaxAnswerBytes) {
            Fail(ErrorCode::kCorruptInput, "{}: an answer of more than {} bytes is no listing",
                 ShownUrl(url), kMaxAnswerBytes);
          }
          text += piece;
          return true;
        });
    response = outcome.response;
    if (outcome.broken) {
      retry.Wait(*outcome.broken);
    } else if (IsPassing(response.status)) {
      retry.Wait(fmt::format("{} answered with status {}", ShownUrl(url), response.status),
                 response.headers);
    } else if (response.status == 200) {
      return text;
    } else {
      FailStatus(settings_, name, response, fmt::format("revision {}", Quoted(name.revision)));
    }
  }
}

std::string HubClient::ResolveCommit(const RepositoryName& name) {
  const std::string url = fmt::format("{}/api/{}/{}/revision/{}", settings_.endpoint,
                                      ApiFolder(name.kind), name.id, EscapeSegment(name.revision));
  HttpResponse response;
  const std::string what = "the hub's answer about " + name.Shown();
  const Json answer = ParseJson(GetText(name, url, response), what);
  if (!answer.is_object()) Fail(ErrorCode::kCorruptInput, "{}: expected a JSON object", what);
  std::string commit = RequiredString(answer, "sha", what);
  if (!IsCommit(commit)) {
    Fail(ErrorCode::kCorruptInput, "{}: {} is no commit", what, Quoted(commit));
  }
  return commit;
}

HubListing HubClient::List(const RepositoryName& name) {
  HubListing listing;
  listing.commit = IsCommit(name.revision) ? name.revision : ResolveCommit(name);
  const std::string what = "the list of files of " + name.Shown();
  std::string url = fmt::format("{}/api/{}/{}/tree/{}?recursive=True&expand=False",
                                settings_.endpoint, ApiFolder(name.kind), name.id, listing.commit);
  std::set<std::string> seen;
  for (int page = 0; !url.empty(); ++page) {
    if (page == kMaxPages) Fail(ErrorCode::kCorruptInput, "{} has no end", what);
    HttpResponse response;
    AddPage(ParseJson(GetText(name, url, response), what), what, seen, listing);
    url = NextPage(response);
  }
  return listing;
}

}  // namespace narrow
