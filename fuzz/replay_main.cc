// Runs a libFuzzer entry point over files, so that the corpus is replayed as an ordinary test by a
// compiler that has no libFuzzer. Arguments: files, or directories of files.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

int Replay(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    return 1;
  }
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  // An exact copy on the heap, so that a sanitizer sees the first byte read past the end.
  const std::vector<uint8_t> input(bytes.begin(), bytes.end());
  return LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace

int main(int argument_count, char** arguments) {
  int replayed = 0;
  int failed = 0;
  for (int i = 1; i < argument_count; ++i) {
    if (!std::filesystem::is_directory(arguments[i])) {
      failed += Replay(arguments[i]);
      ++replayed;
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(arguments[i])) {
      if (!entry.is_regular_file()) continue;
      failed += Replay(entry.path());
      ++replayed;
    }
  }
  std::printf("%d inputs replayed, %d failed\n", replayed, failed);
  return failed == 0 && replayed > 0 ? 0 : 1;
}
