// Several connections that read one file ahead of who takes its bytes in order.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "hub/remote_file.h"

namespace narrow {

// Memory of a pipeline at most: two chunks of 8 MiB per connection.
int64_t PipelineBytes(const HubSettings& settings);

// Threads with a connection each, which stay open from file to file. Memory: PipelineBytes.
// Thread-compatible.
class FilePipeline {
 public:
  // `settings` outlives the object.
  explicit FilePipeline(const HubSettings& settings);
  ~FilePipeline();
  FilePipeline(const FilePipeline&) = delete;
  FilePipeline& operator=(const FilePipeline&) = delete;

  // Ends the Read that is under way, and all that follow, with an Error. From any thread.
  void Cancel() { ended_ = cancelled_ = true; }

  // Hands the bytes of the file from `offset` on to `sink`, in order, each once. Throws: as
  // RemoteFile::Read; what the sink throws.
  void Read(const RemoteFile& file, int64_t offset,
            const std::function<void(std::span<const std::byte>)>& sink);

 private:
  struct Chunk;
  void Work();
  void Enqueue(std::shared_ptr<Chunk> chunk);
  // Ends what is under way, and waits for that.
  void Drain(std::deque<std::shared_ptr<Chunk>>& chunks) noexcept;

  const HubSettings& settings_;
  std::atomic<bool> cancelled_ = false;
  std::atomic<bool> ended_ = false;  // cancelled for good
  bool ends_ = false;
  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  std::deque<std::shared_ptr<Chunk>> queue_;
  std::vector<std::unique_ptr<std::byte[]>> buffers_;  // not in use
  std::vector<std::thread> threads_;
};

}  // namespace narrow
