#include "hub/download.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "hub/digest.h"
#include "io/file.h"
#include "io/paths.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kReadBytes = int64_t{4} << 20;

ContentDigest DigestOf(const HubFile& file) {
  return {file.large ? ContentDigest::Kind::kSha256 : ContentDigest::Kind::kGitBlob, file.size};
}

void CheckRoom(const fs::path& path, int64_t bytes) {
  const int64_t free = FreeBytes(path);
  if (free >= bytes) return;
  Fail(ErrorCode::kIo,
       "{}: disk full: {} bytes are to come, {} are free; free some space, or name another place "
       "with HF_HUB_CACHE",
       path.parent_path().string(), bytes, free);
}

// Hands the bytes of a file on this machine to `sink`, until it returns false. Returns how many.
int64_t ReadLocal(const fs::path& path,
                  const std::function<bool(std::span<const std::byte>)>& sink) {
  const InputFile file(path);
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(kReadBytes, file.size())));
  for (int64_t offset = 0; offset < file.size();) {
    const std::span<std::byte> piece = std::span(buffer).first(
        static_cast<std::size_t>(std::min(kReadBytes, file.size() - offset)));
    file.ReadAt(offset, piece);
    offset += std::ssize(piece);
    if (!sink(piece)) return offset;
  }
  return file.size();
}

// Takes the bytes that are there into the digest. Returns their number; 0 when there are more than
// the file has.
int64_t TakePartial(const fs::path& path, const HubFile& file, ContentDigest& digest) {
  std::error_code error;
  if (!fs::is_regular_file(path, error) ||
      static_cast<int64_t>(fs::file_size(path, error)) > file.size) {
    return 0;
  }
  return ReadLocal(path, [&](std::span<const std::byte> bytes) {
    digest.Add(bytes);
    return true;
  });
}

// One attempt. Returns whether the digest was right.
bool FetchOnce(const RemoteFile& remote, const fs::path& path, FilePipeline& pipeline,
               ProgressSink& progress, bool& continued) {
  const HubFile& file = remote.file();
  ContentDigest digest = DigestOf(file);
  int64_t position = TakePartial(path, file, digest);
  continued = position > 0;
  if (position == 0) digest = DigestOf(file);
  CheckRoom(path, file.size - position);
  progress.Skip(position);
  OutputFile output(path, continued ? OutputFile::Contents::kKeep : OutputFile::Contents::kDiscard);
  pipeline.Read(remote, position, [&](std::span<const std::byte> bytes) {
    output.WriteAt(position, bytes);
    digest.Add(bytes);
    position += static_cast<int64_t>(bytes.size());
    progress.Advance(static_cast<int64_t>(bytes.size()));
  });
  output.Close();
  return digest.Finish() == file.blob;
}

}  // namespace

void FetchToFile(const RemoteFile& remote, const fs::path& path, FilePipeline& pipeline,
                 ProgressSink& progress) {
  bool continued = false;
  if (FetchOnce(remote, path, pipeline, progress, continued)) return;
  std::error_code ignored;
  fs::remove(path, ignored);
  // What was continued may have been damaged before: once more from the start.
  if (continued && FetchOnce(remote, path, pipeline, progress, continued)) return;
  fs::remove(path, ignored);
  Fail(ErrorCode::kCorruptInput,
       "{}: what arrived has not the digest {} that the hub states; try again", remote.Shown(),
       remote.file().blob);
}

HubSnapshot::HubSnapshot(HubSettings settings, RepositoryName name, HubListing listing)
    : settings_(std::make_shared<HubSettings>(std::move(settings))),
      name_(std::move(name)),
      cache_(settings_->cache, name_),
      listing_(std::move(listing)) {}

bool HubSnapshot::Has(const std::vector<const HubFile*>& files) const {
  return std::ranges::all_of(
      files, [this](const HubFile* file) { return cache_.Has(listing_.commit, *file); });
}

RemoteFile HubSnapshot::Open(const HubFile& file) const {
  return {*settings_, name_, listing_.commit, file};
}

void HubSnapshot::FetchOne(const HubFile& file, ProgressSink& progress) {
  const BlobLock lock(cache_, file, progress);
  if (cache_.HasBlob(file)) {
    progress.Skip(file.size);
  } else {
    if (!pipeline_) pipeline_ = std::make_unique<FilePipeline>(*settings_);
    const fs::path partial = cache_.Partial(file);
    FetchToFile(Open(file), partial, *pipeline_, progress);
    std::error_code error;
    fs::rename(partial, cache_.Blob(file), error);
    if (error) {
      Fail(ErrorCode::kIo, "{}: cannot be renamed: {}", partial.string(), error.message());
    }
  }
  cache_.Link(listing_.commit, file);
}

fs::path HubSnapshot::FetchStart(const HubFile& file,
                                 const std::function<bool(std::span<const std::byte>)>& enough,
                                 ProgressSink& progress) {
  cache_.Prepare(listing_.commit);
  const fs::path partial = cache_.Partial(file);
  bool done = false;
  const auto take = [&](std::span<const std::byte> bytes) { return !(done = enough(bytes)); };
  {
    const BlobLock lock(cache_, file, progress);
    if (cache_.HasBlob(file)) {
      cache_.Link(listing_.commit, file);
      return cache_.Blob(file);
    }
    std::error_code error;
    int64_t position = fs::is_regular_file(partial, error) ? ReadLocal(partial, take) : 0;
    progress.BeginPhase("Downloading the start of " + file.path, 0, "bytes");
    if (!done && position < file.size) {
      OutputFile output(partial, OutputFile::Contents::kKeep);
      HttpSession session(*settings_);
      Open(file).ReadRest(session, position, [&](std::span<const std::byte> bytes) {
        output.WriteAt(position, bytes);
        position += std::ssize(bytes);
        progress.Advance(std::ssize(bytes));
        return take(bytes);
      });
    }
    progress.EndPhase();
  }
  if (done) {
    cache_.WriteRef(name_.revision, listing_.commit);
    return partial;
  }
  Fetch({&file}, progress);  // it is all there: checks it
  return cache_.Blob(file);
}

void HubSnapshot::Fetch(const std::vector<const HubFile*>& files, ProgressSink& progress) {
  std::vector<const HubFile*> missing;
  int64_t bytes = 0;
  for (const HubFile* file : files) {
    if (cache_.Has(listing_.commit, *file)) continue;
    missing.push_back(file);
    bytes += file->size;
  }
  if (!missing.empty()) {
    cache_.Prepare(listing_.commit);
    progress.BeginPhase("Downloading " + name_.Shown(), bytes, "bytes");
    for (const HubFile* file : missing) FetchOne(*file, progress);
    progress.EndPhase();
  }
  try {
    cache_.WriteRef(name_.revision, listing_.commit);
  } catch (const Error&) {
    if (!missing.empty()) throw;  // else the cache may be one that is only read
  }
}

}  // namespace narrow
