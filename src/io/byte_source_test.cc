// A checkpoint whose files are not on this machine: in memory, and where reads fail.
#include "io/byte_source.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint_reader.h"
#include "io/file.h"
#include "io/scratch_directory.h"

namespace narrow {
namespace {

class MemorySource final : public ByteSource {
 public:
  MemorySource(std::string name, std::string bytes)
      : path_("far/away/" + name), bytes_(std::move(bytes)) {}

  const std::filesystem::path& path() const override { return path_; }
  int64_t size() const override { return std::ssize(bytes_); }
  int64_t modified_ns() const override { return 17; }
  void ReadAt(int64_t offset, std::span<std::byte> bytes) const override {
    const int64_t end = offset + std::ssize(bytes);
    if (offset <= broken_at && broken_at < end) {
      Fail(ErrorCode::kIo, "{}: reading at offset {} failed: connection reset", path_.string(),
           offset);
    }
    if (end > size()) Fail(ErrorCode::kCorruptInput, "{}: ends early", path_.string());
    std::memcpy(bytes.data(), bytes_.data() + offset, bytes.size());
  }
  void CheckUnchanged() const override {
    if (changed) Fail(ErrorCode::kCorruptInput, "{} was changed", path_.string());
  }

  int64_t broken_at = -1;  // the byte that cannot be read; -1: none
  bool changed = false;

 private:
  std::filesystem::path path_;
  std::string bytes_;
};

// A file of one tensor [4], bytes of one value.
std::string OneTensor(const std::string& name, char fill) {
  const SafetensorsLayout layout = BuildSafetensorsLayout({{name, Dtype::kU8, {4}}});
  return layout.header + std::string(4, fill);
}

// Two files, "a" and "b", of a tensor each.
class RemoteCheckpoint {
 public:
  RemoteCheckpoint() {
    files_.directory = "far/away";
    files_.config = {{"model_type", "llama"}};
    files_.index = WeightMap{{"a", "1.safetensors"}, {"b", "2.safetensors"}};
    files_.weights = {"1.safetensors", "2.safetensors"};
    files_.open = [this](const std::string& name) {
      auto source = std::make_unique<MemorySource>(name, contents_.at(name));
      source->broken_at = broken_.contains(name) ? broken_.at(name) : -1;
      sources_[name] = source.get();
      return source;
    };
  }

  void BreakAt(const std::string& name, int64_t offset) { broken_[name] = offset; }
  void Put(const std::string& name, std::string bytes) { contents_[name] = std::move(bytes); }
  CheckpointReader Open() const { return CheckpointReader(files_); }
  MemorySource& source(const std::string& name) { return *sources_.at(name); }

 private:
  std::map<std::string, std::string> contents_ = {{"1.safetensors", OneTensor("a", 'x')},
                                                  {"2.safetensors", OneTensor("b", 'y')}};
  std::map<std::string, int64_t> broken_;
  std::map<std::string, MemorySource*> sources_;  // of the last reader
  CheckpointFiles files_;
};

std::string Contents(const CheckpointReader& reader, std::string_view name) {
  std::string bytes(4, '\0');
  reader.Read(reader.Get(name), std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

TEST(ByteSource, ACheckpointIsReadFromMemory) {
  const RemoteCheckpoint remote;
  const CheckpointReader reader = remote.Open();
  EXPECT_EQ(reader.directory(), "far/away");
  EXPECT_EQ(reader.config().at("model_type"), "llama");
  EXPECT_EQ(Contents(reader, "a"), "xxxx");
  EXPECT_EQ(Contents(reader, "b"), "yyyy");
  EXPECT_EQ(reader.traffic().bytes, 8);
  EXPECT_FALSE(reader.SameContents("a", "b"));
  ASSERT_EQ(reader.files().size(), 2u);
  EXPECT_EQ(reader.files()[1].name, "2.safetensors");
  EXPECT_EQ(reader.files()[1].bytes, std::ssize(OneTensor("b", 'y')));
  EXPECT_EQ(reader.files()[1].modified_ns, 17);
}

TEST(ByteSource, AFaultInAHeaderStopsTheReader) {
  for (const int64_t offset : {0, 3, 8, 20}) {
    RemoteCheckpoint remote;
    remote.BreakAt("2.safetensors", offset);
    ExpectError(ErrorCode::kIo, "far/away/2.safetensors: reading at offset",
                [&] { remote.Open(); });
  }
}

TEST(ByteSource, AFaultInATensorIsOfThatTensorAlone) {
  const int64_t begin = std::ssize(OneTensor("b", 'y')) - 4;
  for (int64_t offset = begin; offset < begin + 4; ++offset) {
    RemoteCheckpoint remote;
    remote.BreakAt("2.safetensors", offset);
    const CheckpointReader reader = remote.Open();
    EXPECT_EQ(Contents(reader, "a"), "xxxx");
    ExpectError(ErrorCode::kIo, fmt::format("2.safetensors: reading at offset {} failed", begin),
                [&] { Contents(reader, "b"); });
    ExpectError(ErrorCode::kIo, "2.safetensors", [&] { reader.SameContents("a", "b"); });
    std::byte first{};  // what lies before the fault can be had
    if (offset > begin) reader.ReadPart(reader.Get("b"), 0, std::span(&first, 1));
    EXPECT_EQ(first, offset > begin ? std::byte{'y'} : std::byte{0});
  }
}

TEST(ByteSource, DamageAndChangesAreNamed) {
  RemoteCheckpoint remote;
  const CheckpointReader reader = remote.Open();
  reader.CheckUnchanged();
  remote.source("2.safetensors").changed = true;
  ExpectError(ErrorCode::kCorruptInput, "far/away/2.safetensors was changed",
              [&] { reader.CheckUnchanged(); });
  remote.Put("1.safetensors", OneTensor("a", 'x').substr(0, 40));
  ExpectError(ErrorCode::kCorruptInput, "far/away/1.safetensors: header length",
              [&] { remote.Open(); });
  remote.Put("1.safetensors", OneTensor("c", 'x'));
  EXPECT_EQ(remote.Open().absent().at("a"), "1.safetensors");
}

TEST(ByteSource, AFileIsOne) {
  const ScratchDirectory scratch;
  const InputFile file(scratch.Put("f", "0123456789"));
  const ByteSource& source = file;
  EXPECT_EQ(source.path(), scratch.path() / "f");
  EXPECT_EQ(source.size(), 10);
  std::string middle(3, '\0');
  source.ReadAt(4, std::as_writable_bytes(std::span(middle)));
  EXPECT_EQ(middle, "456");
  scratch.Put("f", "012345678");
  ExpectError(ErrorCode::kCorruptInput, "was changed while", [&] { source.CheckUnchanged(); });
}

}  // namespace
}  // namespace narrow
