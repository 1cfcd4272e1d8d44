#include "hub/file_pipeline.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace narrow {
namespace {

constexpr int64_t kChunkBytes = int64_t{8} << 20;
constexpr int kChunksPerConnection = 2;

}  // namespace

int64_t PipelineBytes(const HubSettings& settings) {
  return kChunkBytes * kChunksPerConnection * settings.connections;
}

struct FilePipeline::Chunk {
  const RemoteFile* file = nullptr;
  int64_t offset = 0;
  int64_t bytes = 0;
  std::unique_ptr<std::byte[]> buffer;
  bool done = false;
  std::exception_ptr failure;
};

FilePipeline::FilePipeline(const HubSettings& settings) : settings_(settings) {
  for (int i = 0; i < settings.connections; ++i) threads_.emplace_back([this] { Work(); });
}

FilePipeline::~FilePipeline() {
  cancelled_ = true;
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void FilePipeline::Work() {
  HttpSession session(settings_, &cancelled_);
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return ends_ || !queue_.empty(); });
    if (ends_) return;
    const std::shared_ptr<Chunk> chunk = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    try {
      chunk->file->Read(session, chunk->offset,
                        {chunk->buffer.get(), static_cast<std::size_t>(chunk->bytes)}, &cancelled_);
    } catch (...) {
      chunk->failure = std::current_exception();
    }
    lock.lock();
    chunk->done = true;
    done_.notify_all();
  }
}

void FilePipeline::Enqueue(std::shared_ptr<Chunk> chunk) {
  {
    const std::lock_guard lock(mutex_);
    if (!buffers_.empty()) {
      chunk->buffer = std::move(buffers_.back());
      buffers_.pop_back();
    } else {
      chunk->buffer = std::make_unique_for_overwrite<std::byte[]>(kChunkBytes);
    }
    queue_.push_back(std::move(chunk));
  }
  work_.notify_one();
}

void FilePipeline::Drain(std::deque<std::shared_ptr<Chunk>>& chunks) noexcept {
  cancelled_ = true;
  std::unique_lock lock(mutex_);
  for (const auto& waiting : queue_) waiting->done = true;
  queue_.clear();
  done_.wait(lock, [&] { return std::ranges::all_of(chunks, [](auto& c) { return c->done; }); });
  for (const auto& chunk : chunks) buffers_.push_back(std::move(chunk->buffer));
  chunks.clear();
  cancelled_ = ended_.load();
}

void FilePipeline::Read(const RemoteFile& file, int64_t offset,
                        const std::function<void(std::span<const std::byte>)>& sink) {
  const int64_t size = file.file().size;
  const auto most = static_cast<std::size_t>(settings_.connections * kChunksPerConnection);
  std::deque<std::shared_ptr<Chunk>> chunks;
  int64_t next = offset;
  try {
    while (next < size || !chunks.empty()) {
      // The first answer tells whether there are ranges at all.
      const std::size_t ahead = next == offset ? 1 : most;
      while (next < size && chunks.size() < ahead) {
        auto chunk = std::make_shared<Chunk>();
        *chunk = {&file, next, std::min(kChunkBytes, size - next), nullptr, false, nullptr};
        next += chunk->bytes;
        Enqueue(chunk);
        chunks.push_back(std::move(chunk));
      }
      const std::shared_ptr<Chunk> first = chunks.front();
      {
        std::unique_lock lock(mutex_);
        done_.wait(lock, [&] { return first->done; });
      }
      if (first->failure) std::rethrow_exception(first->failure);
      sink({first->buffer.get(), static_cast<std::size_t>(first->bytes)});
      chunks.pop_front();
      {
        const std::lock_guard lock(mutex_);
        buffers_.push_back(std::move(first->buffer));
      }
      if (file.ranges_ignored() && chunks.empty() && next < size) {
        HttpSession session(settings_, &cancelled_);
        return file.ReadRest(session, next, [&](std::span<const std::byte> bytes) {
          sink(bytes);
          return true;
        });
      }
    }
  } catch (...) {
    Drain(chunks);
    throw;
  }
}

}  // namespace narrow
