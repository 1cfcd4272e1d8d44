// Weights of every scheme, byte for byte as the tools of each format make them
// (../shared/golden/schemes: llm-compressor 0.14, transformers 5.24, AMD Quark 0.13).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "formats/scheme_format.h"
#include "hub/digest.h"
#include "io/json.h"
#include "io/scratch_directory.h"
#include "schemes/scheme_presets.h"
#include "schemes/weight_encoder.h"
#include "tests/shared_data.h"
#include "tests/support/stored_tensors.h"

namespace narrow {
namespace {

struct GoldenCase {
  const char* folder;
  const char* scheme;
  const char* format;
  const char* source = "source";
};

// The folders that hold these weights; those with a KV cache have the weights of another one.
constexpr GoldenCase kCases[] = {
    {"ct-fp8-static", "fp8", "compressed-tensors"},
    {"ct-fp8-dynamic", "FP8_DYNAMIC", "compressed-tensors"},
    {"ct-fp8-block", "FP8_BLOCK", "compressed-tensors"},
    {"fp8-block", "FP8_BLOCK", "fp8"},
    {"ct-int8-dynamic", "W8A8", "compressed-tensors"},
    {"ct-int8-static", "W8A8_STATIC", "compressed-tensors"},
    {"ct-int8-static-asym", "W8A8_STATIC", "compressed-tensors"},
    {"ct-w4a16", "W4A16", "compressed-tensors"},
    {"ct-w4a16-asym", "W4A16_ASYM", "compressed-tensors"},
    {"ct-mxfp4", "MXFP4", "compressed-tensors"},
    {"ct-mxfp4a16", "MXFP4A16", "compressed-tensors"},
    {"ct-nvfp4", "NVFP4", "compressed-tensors"},
    {"ct-nvfp4a16", "NVFP4A16", "compressed-tensors"},
    {"quark-ptpc-fp8", "ptpc_fp8", "quark"},
    {"quark-mxfp4", "mxfp4", "quark"},
    {"quark-mxfp4-weight-only", "mxfp4a16", "quark"},
    {"ragged/ct-fp8-block", "FP8_BLOCK", "compressed-tensors", "source-ragged"},
    {"ragged/ct-mxfp4", "MXFP4", "compressed-tensors", "source-ragged"},
    {"ragged/ct-mxfp8", "MXFP8", "compressed-tensors", "source-ragged"},
    {"ragged/ct-nvfp4", "NVFP4", "compressed-tensors", "source-ragged"},
    {"ragged/quark-mxfp4", "MXFP4", "quark", "source-ragged"},
};

using Tensors = std::map<std::string, StoredTensor>;

std::span<const std::byte> Bytes(const std::string& bytes) {
  return std::as_bytes(std::span(bytes));
}
std::span<std::byte> Bytes(std::string& bytes) { return std::as_writable_bytes(std::span(bytes)); }

// The linears that share a global scale with this one.
std::vector<std::string> Sharing(const std::string& module) {
  const std::string parent = module.substr(0, module.rfind('.') + 1);
  const std::string leaf = module.substr(module.rfind('.') + 1);
  for (const std::vector<std::string>& group : std::vector<std::vector<std::string>>{
           {"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"}}) {
    if (std::ranges::find(group, leaf) == group.end()) continue;
    std::vector<std::string> modules;
    for (const std::string& part : group) modules.push_back(parent + part);
    return modules;
  }
  return {module};
}

// A weight in its parts, encoded in bands of as few rows as can be.
std::map<std::string, StoredTensor> Encode(const std::string& module, const Tensors& source,
                                           const SchemeFormat& format, const LinearScheme& scheme) {
  const StoredTensor& weight = source.at(module + ".weight");
  const SourceLinear linear{module, weight.shape[0], weight.shape[1], weight.dtype};
  const WeightEncoder encoder(module, scheme.weight, format.rule(scheme), linear.type, linear.rows,
                              linear.columns);
  float maximum = 0;
  if (scheme.weight.scale == ScaleFormat::kE4M3WithGlobal) {
    for (const std::string& other : Sharing(module)) {
      const StoredTensor& part = source.at(other + ".weight");
      const WeightEncoder of_part(other, scheme.weight, format.rule(scheme), part.dtype,
                                  part.shape[0], part.shape[1]);
      maximum = std::max(maximum, of_part.Maximum(Bytes(part.bytes)));
    }
  } else if (encoder.NeedsMaximum()) {
    maximum = encoder.Maximum(Bytes(weight.bytes));
  }
  std::string codes, scales, zeros;
  const int64_t row_bytes = linear.columns * ElementBytes(linear.type);
  for (int64_t row = 0; row < linear.rows; row += encoder.band_rows()) {
    const int64_t count = std::min(encoder.band_rows(), linear.rows - row);
    const WeightEncoder::BandSizes band = encoder.SizesOfBand(row, count);
    std::string band_codes(static_cast<std::size_t>(band.codes), '\0');
    std::string band_scales(static_cast<std::size_t>(band.scales), '\0');
    std::string band_zeros(static_cast<std::size_t>(band.zeros), '\0');
    encoder.Encode(row,
                   Bytes(weight.bytes)
                       .subspan(static_cast<std::size_t>(row * row_bytes),
                                static_cast<std::size_t>(count * row_bytes)),
                   maximum, {Bytes(band_codes), Bytes(band_scales), Bytes(band_zeros)});
    codes += band_codes;
    scales += band_scales;
    zeros += band_zeros;
  }
  std::map<std::string, StoredTensor> parts;
  for (const PartTensor& part : format.tensors(linear, scheme)) {
    StoredTensor tensor{part.tensor.dtype, part.tensor.shape, {}};
    const float global =
        part.part == LinearPart::kGlobalScale ? encoder.GlobalScale(maximum) : 0.0f;
    const int64_t shape[2] = {linear.rows, linear.columns};
    switch (part.part) {
      case LinearPart::kCodes:
        tensor.bytes = codes;
        break;
      case LinearPart::kScale:
        tensor.bytes = scales;
        break;
      case LinearPart::kZeroPoint:
        tensor.bytes = zeros;
        break;
      case LinearPart::kGlobalScale:
        tensor.bytes.assign(reinterpret_cast<const char*>(&global), sizeof(global));
        break;
      case LinearPart::kShape:
        tensor.bytes.assign(reinterpret_cast<const char*>(shape), sizeof(shape));
        break;
      case LinearPart::kInputScale:
      case LinearPart::kInputGlobalScale:
        continue;
    }
    parts.emplace(part.tensor.name, std::move(tensor));
  }
  return parts;
}

std::size_t Differences(const std::string& a, const std::string& b) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += a[i] != b[i];
  return count;
}

class SchemeGoldens : public testing::TestWithParam<GoldenCase> {};

TEST_P(SchemeGoldens, WeightsHaveTheBytesOfTheTool) {
  const std::string root = SharedPath("golden/schemes");
  if (root.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  const std::filesystem::path base = root;
  const Tensors source = ReadTensors(base / GetParam().source);
  const ScratchDirectory copy;
  CopyCheckpoint(base / GetParam().folder, copy.path());
  const Tensors expected = ReadTensors(copy.path());
  const LinearScheme& scheme = GetSchemePreset(GetParam().scheme).scheme;
  const SchemeFormat& format = FindSchemeFormat(GetParam().format, scheme);
  std::set<std::string> compared;
  for (const auto& [name, tensor] : source) {
    if (!name.ends_with("_proj.weight")) {
      EXPECT_EQ(expected.at(name).bytes, tensor.bytes) << name;
      compared.insert(name);
      continue;
    }
    const std::string module = name.substr(0, name.size() - 7);
    for (const auto& [part, made] : Encode(module, source, format, scheme)) {
      ASSERT_TRUE(expected.contains(part)) << part;
      const StoredTensor& golden = expected.at(part);
      EXPECT_EQ(Name(made.dtype), Name(golden.dtype)) << part;
      EXPECT_EQ(made.shape, golden.shape) << part;
      ASSERT_EQ(made.bytes.size(), golden.bytes.size()) << part;
      EXPECT_EQ(Differences(made.bytes, golden.bytes), 0u) << part;
      compared.insert(part);
    }
  }
  // What is left is from calibration.
  for (const auto& [name, tensor] : expected) {
    EXPECT_TRUE(compared.contains(name) || name.ends_with(".input_scale") ||
                name.ends_with(".input_zero_point") || name.ends_with(".input_global_scale"))
        << name;
  }
}

// A checkpoint that is too large to be kept whole: by the digests of its tensors.
TEST(SchemeGoldenDigests, MxFp8OfTheWholeSource) {
  const std::string root = SharedPath("golden/schemes");
  if (root.empty()) GTEST_SKIP() << "reference checkpoints are absent";
  const std::filesystem::path base = root;
  const Tensors source = ReadTensors(base / "source");
  const Json expected =
      ReadJsonFile((base / "hash-only/ct-mxfp8/reference.json").string()).at("tensors");
  const LinearScheme& scheme = GetSchemePreset("MXFP8").scheme;
  std::size_t compared = 0;
  for (const auto& [name, tensor] : source) {
    if (!name.ends_with("_proj.weight")) continue;
    const std::string module = name.substr(0, name.size() - 7);
    for (const auto& [part, made] : Encode(module, source, DefaultFormat(scheme), scheme)) {
      ContentDigest digest(ContentDigest::Kind::kSha256, std::ssize(made.bytes));
      digest.Add(Bytes(made.bytes));
      EXPECT_EQ(digest.Finish(), expected.at(part).at("sha256")) << part;
      ++compared;
    }
  }
  EXPECT_EQ(compared, expected.size());
}

INSTANTIATE_TEST_SUITE_P(Folders, SchemeGoldens, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<GoldenCase>& golden) {
                           return FolderAsName(golden.param.folder);
                         });

}  // namespace
}  // namespace narrow
