// Names of the hub: repositories, revisions and the files in them. All may come from outside.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace narrow {

struct RepositoryName {
  enum class Kind { kModel, kDataset };
  Kind kind = Kind::kModel;
  std::string id;                 // "org/name"
  std::string revision = "main";  // a branch, a tag or a commit

  // "models--org--name": its folder in the cache.
  std::string CacheFolder() const;
  // "org/name", and "@revision" unless that is main.
  std::string Shown() const;
};

// "org/name" or "org/name@revision" by the rules of huggingface_hub 2.4 (utils/_validators.py);
// nothing for any other text. A path such as "./x" or "/a/b" is none.
std::optional<RepositoryName> ParseRepositoryName(std::string_view text, RepositoryName::Kind kind);

// Whether the text can be a repository: "org/name", or "name" alone as the first models have it; at
// most 96 bytes. Source: as above, validate_repo_id.
bool IsHubName(std::string_view text);

// So many hexadecimal digits in lower case.
bool IsHexadecimal(std::string_view text, std::size_t digits);

// Forty of them.
bool IsCommit(std::string_view revision);

// Whether a name from a listing stays below the directory it is put in: relative, parts parted by
// '/', none of them empty, "." or "..", no control characters, at most 1024 bytes, 255 a part.
bool IsSafePath(std::string_view path);

// A file of a repository as its listing describes it.
struct HubFile {
  std::string path;    // safe
  int64_t size = 0;    // bytes
  std::string blob;    // its name in the cache: SHA-256 for large files, else the git blob's id
  bool large = false;  // stored by git-lfs
};

struct HubListing {
  std::string commit;  // of the revision when it was asked
  std::vector<HubFile> files;

  // Null when there is none of that path.
  const HubFile* Find(std::string_view path) const;
};

}  // namespace narrow
