#include "io/file_copy.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <system_error>

#include "base/error.h"

namespace narrow {
namespace {

// FICLONE of linux/fs.h.
constexpr unsigned long kClone = _IOW(0x94, 9, int);

// A descriptor that is closed with the object.
class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags)
      : value_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return value_; }

 private:
  int value_;
};

// False where the file system cannot; then there may be an empty file.
bool Clone(const std::filesystem::path& from, const std::filesystem::path& to) {
  const Descriptor source(from, O_RDONLY), target(to, O_WRONLY | O_CREAT | O_EXCL);
  return source.value() >= 0 && target.value() >= 0 &&
         ::ioctl(target.value(), kClone, source.value()) == 0;
}

}  // namespace

void CopyWholeFile(const std::filesystem::path& from, const std::filesystem::path& to,
                   FileCopy copy) {
  std::error_code error;
  const std::filesystem::path source = std::filesystem::canonical(from, error);
  if (error) Fail(ErrorCode::kIo, "{}: {}", from.string(), error.message());
  if (copy == FileCopy::kLinked) {
    std::filesystem::create_hard_link(source, to, error);
    if (!error) return;
    Fail(ErrorCode::kIo,
         "{} cannot be linked to {} ({}); leave out --link_weights, and it is copied",
         source.string(), to.string(), error.message());
  }
  if (Clone(source, to)) return;
  std::filesystem::copy_file(source, to, std::filesystem::copy_options::overwrite_existing, error);
  if (error) Fail(ErrorCode::kIo, "{}: {}", to.string(), error.message());
}

}  // namespace narrow
