// The hub's public interface: which commit a revision is, what files it has, and where they are.
#pragma once

#include <string>

#include "hub/http.h"
#include "hub/repository.h"
#include "hub/settings.h"

namespace narrow {

// Thread-compatible.
class HubClient {
 public:
  // `settings` outlives the client. Throws: kNotFound when it says offline.
  explicit HubClient(const HubSettings& settings);

  // The commit a revision is, and its files, all of them from that commit. Source: the calls that
  // huggingface_hub 2.4 makes (hf_api.py: repo_info, list_repo_tree). Throws: kNotFound for what is
  // missing, gated or private, saying what to do; kCorruptInput for an answer that is no such
  // listing or names a path that leaves the directory; kIo when the hub cannot be reached.
  HubListing List(const RepositoryName& name);

 private:
  std::string ResolveCommit(const RepositoryName& name);
  // The body of a JSON answer, with its headers in `response`.
  std::string GetText(const RepositoryName& name, const std::string& url, HttpResponse& response);

  const HubSettings& settings_;
  HttpSession session_;
};

// Where a file's bytes are asked for.
std::string FileUrl(const HubSettings& settings, const RepositoryName& name,
                    const std::string& commit, const std::string& path);

// What a status other than 2xx says, for the user. Throws: kNotFound for 401, 403, 404 and 410, kIo
// for the rest. `what` is what was asked for.
[[noreturn]] void FailStatus(const HubSettings& settings, const RepositoryName& name,
                             const HttpResponse& response, const std::string& what);

}  // namespace narrow
