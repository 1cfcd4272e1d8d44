// Every family's checkpoint from the weights alone, in every scheme without calibration, beside
// llm-compressor's model_free_ptq (tests/golden/model_free.json, made by
// tools/goldens/make_model_free.py).
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "io/scratch_directory.h"
#include "jobs/data_free.h"
#include "schemes/scheme_presets.h"
#include "tests/build_paths.h"
#include "tests/shared_data.h"
#include "tests/support/stored_tensors.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

// CRC-32 of IEEE 802.3, as zlib has it.
class Crc32 {
 public:
  void Add(std::string_view bytes) {
    static const std::array<uint32_t, 256> table = Table();
    for (const char c : bytes) {
      state_ = table[(state_ ^ static_cast<uint8_t>(c)) & 0xFF] ^ (state_ >> 8);
    }
  }
  std::string Hex() const { return fmt::format("{:08x}", ~state_); }

 private:
  static std::array<uint32_t, 256> Table() {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0xEDB88320u : 0u);
      table[i] = value;
    }
    return table;
  }
  uint32_t state_ = 0xFFFFFFFFu;
};

bool HasAny(const std::string& name, const Json& parts) {
  for (const Json& part : parts) {
    if (name.find(part.get_ref<const std::string&>()) != name.npos) return true;
  }
  return false;
}

std::string Digest(const fs::path& directory, const Json& without) {
  Crc32 crc;
  for (const auto& [name, tensor] : ReadTensors(directory)) {
    if (HasAny(name, without)) continue;
    crc.Add(fmt::format("{} {} {}\n", name, Name(tensor.dtype), fmt::join(tensor.shape, ",")));
    crc.Add(tensor.bytes);
  }
  return crc.Hex();
}

// Each on its own, so that they run side by side.
class Families : public testing::TestWithParam<std::string_view> {};

TEST_P(Families, LikeModelFreePtqOrLeftByRule) {
  const fs::path base = SharedPath("golden/families");
  if (base.empty()) GTEST_SKIP() << "the families' checkpoints are absent";
  const Json expected = ReadJsonFile(NARROW_SOURCE_DIR "/tests/golden/model_free.json");
  int compared = 0;
  for (const auto& entry : fs::directory_iterator(base)) {
    const std::string family = entry.path().filename().string();
    const ScratchDirectory scratch;
    SilentProgress silent;
    DataFreeRequest request;
    request.job.model_directory = entry.path();
    request.job.output_directory = scratch.path() / "out";
    request.recipe = RecipeOfScheme(GetParam());
    const DataFreeResult result = RunDataFree(request, silent);
    EXPECT_GT(result.quantized, 0) << family;
    const auto golden = expected.find(fmt::format("{} {}", family, GetParam()));
    if (golden == expected.end()) continue;  // the tool cannot save it
    EXPECT_EQ(Digest(scratch.path() / "out", golden->at("without")), golden->at("crc32")) << family;
    ++compared;
  }
  EXPECT_GT(compared, 0);
}

std::vector<std::string_view> SchemesWithoutCalibration() {
  std::vector<std::string_view> names;
  for (const SchemePreset& preset : SchemePresets()) {
    if (!NeedsCalibration(preset.scheme)) names.push_back(preset.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Schemes, Families, testing::ValuesIn(SchemesWithoutCalibration()),
                         [](const testing::TestParamInfo<std::string_view>& scheme) {
                           return std::string(scheme.param);
                         });

}  // namespace
}  // namespace narrow
