// A library to preload: calls on chosen files fail as those on a full or broken disk do, where no
// small file system can be mounted and at exactly the call that is wanted. Environment:
//   NARROW_FAULT_CALL   write (ENOSPC), sync (ENOSPC), read (EIO), exchange (renameat2 knows no
//                       RENAME_EXCHANGE), step-death (the same, and the process is killed after the
//                       first other renameat2 of such a file), swap-death (it is killed after an
//                       exchange)
//   NARROW_FAULT_FILE   part of the path
//   NARROW_FAULT_ONCE   a path: nothing fails or counts before it exists; empty: from the start
//   NARROW_FAULT_AFTER  calls on such files that still work
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

std::atomic<long> calls = 0;

bool Fails(const char* call, int descriptor) {
  const char* failing = std::getenv("NARROW_FAULT_CALL");
  const char* file = std::getenv("NARROW_FAULT_FILE");
  const char* once = std::getenv("NARROW_FAULT_ONCE");
  const char* after = std::getenv("NARROW_FAULT_AFTER");
  if (failing == nullptr || file == nullptr || once == nullptr || after == nullptr) return false;
  if (std::strcmp(failing, call) != 0) return false;
  char link[64];
  char path[PATH_MAX];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
  const ssize_t length = ::readlink(link, path, sizeof(path) - 1);
  if (length <= 0) return false;
  path[length] = '\0';
  if (std::strstr(path, file) == nullptr) return false;
  if (*once != '\0' && ::access(once, F_OK) != 0) return false;
  return calls++ >= std::atol(after);
}

template <typename Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

using Write = ssize_t(int, const void*, size_t, off_t);
using Read = ssize_t(int, void*, size_t, off_t);
using Sync = int(int);
using Rename = int(int, const char*, int, const char*, unsigned);

}  // namespace

extern "C" {

ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  if (Fails("write", descriptor)) {
    errno = ENOSPC;
    return -1;
  }
  static Write* const real = Real<Write>("pwrite");
  return real(descriptor, bytes, count, offset);
}

ssize_t pread(int descriptor, void* bytes, size_t count, off_t offset) {
  if (Fails("read", descriptor)) {
    errno = EIO;
    return -1;
  }
  static Read* const real = Real<Read>("pread");
  return real(descriptor, bytes, count, offset);
}

int fsync(int descriptor) {
  if (Fails("sync", descriptor)) {
    errno = ENOSPC;
    return -1;
  }
  static Sync* const real = Real<Sync>("fsync");
  return real(descriptor);
}

int renameat2(int from_directory, const char* from, int to_directory, const char* to,
              unsigned flags) {
  static Rename* const real = Real<Rename>("renameat2");
  const char* call = std::getenv("NARROW_FAULT_CALL");
  const char* file = std::getenv("NARROW_FAULT_FILE");
  const bool swaps = (flags & RENAME_EXCHANGE) != 0;
  if (call == nullptr || file == nullptr)
    return real(from_directory, from, to_directory, to, flags);
  const bool dies_at_swap = std::strcmp(call, "swap-death") == 0;
  const bool dies_at_step = std::strcmp(call, "step-death") == 0;
  if (swaps && (dies_at_step || std::strcmp(call, "exchange") == 0)) {
    errno = EINVAL;
    return -1;
  }
  const int result = real(from_directory, from, to_directory, to, flags);
  if (result == 0 && (swaps ? dies_at_swap : dies_at_step) && std::strstr(from, file) != nullptr) {
    ::raise(SIGKILL);
  }
  return result;
}

}  // extern "C"
