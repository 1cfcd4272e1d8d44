// The rounding of inputs against compressed-tensors' fake_quantize (vLLM's kernels for INT8).
#include "schemes/input_rounding.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/json.h"
#include "schemes/scheme_presets.h"
#include "tests/shared_data.h"

namespace narrow {
namespace {

using Rows = std::vector<std::vector<float>>;

void Expect(const Json& vectors, const char* kind, const TensorScheme& scheme,
            const StaticInput& input = {}) {
  SCOPED_TRACE(kind);
  Rows rows = vectors.at("x").get<Rows>();
  const Rows expected = vectors.at(kind).get<Rows>();
  ASSERT_EQ(rows.size(), expected.size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    RoundInput(scheme, input, rows[r]);
    for (std::size_t c = 0; c < rows[r].size(); ++c) {
      EXPECT_EQ(rows[r][c], expected[r][c]) << r << ", " << c;
    }
  }
}

TEST(RoundInput, EveryKindLikeTheReferenceVectors) {
  const std::string path = SharedPath("golden/schemes/activation-vectors.json");
  if (path.empty()) GTEST_SKIP() << "reference vectors are absent";
  const Json vectors = ReadJsonFile(path);
  const auto of = [](const char* name) { return GetSchemePreset(name).scheme.input.value(); };
  Expect(vectors, "fp8-static", of("fp8"), {.scale = 0.0267333984f});
  Expect(vectors, "fp8-token", of("FP8_DYNAMIC"));
  Expect(vectors, "fp8-group128", of("FP8_BLOCK"));
  Expect(vectors, "int8-token", of("W8A8"));
  TensorScheme asymmetric = of("W8A8_STATIC");
  asymmetric.symmetric = false;
  Expect(vectors, "int8-static-asym", asymmetric, {.scale = 0.0927734375f, .zero = -9.0f});
  Expect(vectors, "mxfp4", of("MXFP4"));
  Expect(vectors, "mxfp8", of("MXFP8"));
  Expect(vectors, "nvfp4", of("NVFP4"), {.global = 100.5f});
}

TEST(RoundInput, ZerosStayZeros) {
  for (const SchemePreset& preset : SchemePresets()) {
    if (!preset.scheme.input) continue;
    std::vector<float> row(128, 0.0f);
    RoundInput(*preset.scheme.input, {.scale = 1.0f, .global = 1.0f}, row);
    for (const float value : row) EXPECT_EQ(value, 0.0f) << preset.name;
  }
}

}  // namespace
}  // namespace narrow
