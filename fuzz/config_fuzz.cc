// Any bytes as config.json are refused with an Error or give a network whose sizes can be computed
// with.
#include <cmath>
#include <cstdint>
#include <string_view>

#include "base/checked_math.h"
#include "base/error.h"
#include "model/family.h"

namespace narrow {
namespace {

void CheckShapes(const LayerSpec& layer) {
  NARROW_CHECK(!layer.linears.empty());
  for (const LinearSpec& linear : layer.linears) {
    const auto elements = CheckedProduct(Shape{linear.rows, linear.columns});
    NARROW_CHECK(elements && *elements > 0 && !linear.module.empty());
  }
}

void Check(const ModelFamily& family, const DecoderConfig& config) {
  NARROW_CHECK(config.vocabulary > 0 && config.hidden > 0 && config.intermediate > 0);
  NARROW_CHECK(config.layers > 0 && config.max_positions > 0);
  NARROW_CHECK(config.heads.query_heads > 0 && config.heads.key_value_heads > 0);
  NARROW_CHECK(config.heads.query_heads % config.heads.key_value_heads == 0);
  NARROW_CHECK(config.heads.head_size > 0 && config.heads.head_size % 2 == 0);
  NARROW_CHECK(std::isfinite(config.norm_epsilon) && config.norm_epsilon >= 0);
  const RopeConfig& rope = config.rope;
  NARROW_CHECK(std::isfinite(rope.theta) && rope.theta > 0);
  NARROW_CHECK(std::isfinite(rope.factor) && rope.factor > 0);
  CheckShapes(family.layer(config, 0));
  CheckShapes(family.layer(config, config.layers - 1));
  NARROW_CHECK(!family.model(config).embedding.empty());
}

}  // namespace
}  // namespace narrow

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using narrow::ErrorCode;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const narrow::Json json = narrow::ParseJson(text, "config.json");
    const narrow::ModelFamily& family = narrow::FindModelFamily(json, "config.json");
    narrow::Check(family, family.parse_config(json, "config.json"));
  } catch (const narrow::Error& error) {
    const std::string_view message = error.what();
    const bool one_short_line = message.find('\n') == message.npos && message.size() < 1000;
    NARROW_CHECK(one_short_line && (error.code() == ErrorCode::kCorruptInput ||
                                    error.code() == ErrorCode::kUnsupported));
  }
  return 0;
}
