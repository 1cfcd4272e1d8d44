#include "base/memory_use.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>

namespace narrow {
namespace {

std::optional<int64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  int64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;  // no such file, or "max"
}

// Path of this process in the unified control group hierarchy ("0::/path").
std::string ControlGroup() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::")) return line.substr(3);
  }
  return "";
}

}  // namespace

int64_t PeakResidentBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

int64_t CurrentResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total_pages = 0;
  int64_t resident_pages = 0;
  if (!(file >> total_pages >> resident_pages)) return 0;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

int64_t AvailableMemoryBytes() {
  int64_t available = 0;
  std::ifstream meminfo("/proc/meminfo");
  for (std::string key; meminfo >> key;) {
    if (key == "MemAvailable:" && meminfo >> available) break;
    meminfo.ignore(256, '\n');
  }
  available *= 1024;
  // A limit may sit on any ancestor.
  for (std::string group = ControlGroup(); !group.empty();) {
    const std::string directory = "/sys/fs/cgroup" + group;
    const auto limit = ReadNumber(directory + "/memory.max");
    const auto used = ReadNumber(directory + "/memory.current");
    if (limit && used) available = std::min(available, std::max<int64_t>(0, *limit - *used));
    group = group == "/" ? "" : group.substr(0, group.rfind('/'));
  }
  return available;
}

}  // namespace narrow
