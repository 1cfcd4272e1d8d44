// Rotary tables against those of transformers (tests/golden/rope.json).
#include "model/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/family.h"
#include "model/reference.h"

namespace narrow {
namespace {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

// A frequency is a power, of which float32 libraries differ in the last two bits, and multiplies
// the position; the cosine of the product has an error of its own.
double Tolerance(double angle) { return 4 * kEpsilon * angle + kEpsilon; }

void ExpectSameTable(const Json& reference, const DecoderConfig& config) {
  const auto positions = reference["positions"].get<std::vector<int64_t>>();
  if (config.rope.longest > 0) {  // of texts beyond, whose rotation depends on their length
    EXPECT_EQ(config.rope.longest, reference["config"]["max_position_embeddings"]);
    return;
  }
  const std::vector<float> frequencies = Floats(reference["inv_freq"]);
  const RopeTable table(config.rope, config.heads.head_size,
                        *std::max_element(positions.begin(), positions.end()) + 1);
  ASSERT_EQ(std::ssize(frequencies), config.heads.head_size / 2);
  for (std::size_t p = 0; p < positions.size(); ++p) {
    const std::vector<float> cosine = Floats(reference["cos"][p]);
    const std::vector<float> sine = Floats(reference["sin"][p]);
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
      const double near = Tolerance(static_cast<double>(positions[p]) * double{frequencies[i]});
      EXPECT_NEAR(table.Cosine(positions[p])[i], cosine[i], near) << positions[p] << " " << i;
      EXPECT_NEAR(table.Sine(positions[p])[i], sine[i], near) << positions[p] << " " << i;
    }
  }
}

// What this build does not know, it refuses by name; what it knows, it computes as transformers
// does.
TEST(Rope, TablesAreThoseOfTransformers) {
  const Json file = ReadReference("rope.json");
  int compared = 0;
  for (const Json& reference : file["cases"]) {
    const Json& config = reference["config"];
    const auto kind = config["rope_parameters"]["rope_type"].get<std::string>();
    SCOPED_TRACE(config["rope_parameters"].dump());
    try {
      ExpectSameTable(reference, FindModelFamily(config, "the config").parse_config(config, "it"));
      ++compared;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      EXPECT_THAT(error.what(), testing::HasSubstr('"' + kind + '"'));
      EXPECT_THAT(kind,
                  testing::Not(testing::AnyOf("default", "linear", "llama3", "yarn", "dynamic")));
    }
  }
  EXPECT_GE(compared, 9);
}

}  // namespace
}  // namespace narrow
