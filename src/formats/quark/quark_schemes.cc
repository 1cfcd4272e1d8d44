#include "formats/quark/quark_schemes.h"

#include "formats/quark/quantizer.h"
#include "formats/quark_layout.h"
#include "schemes/weight_encoder.h"

namespace narrow {
namespace {

bool IsMicroscaled(const TensorScheme& scheme) {
  return scheme.code == Code::kE2M1 && scheme.scale == ScaleFormat::kPowerOfTwo;
}
bool IsPerRow(const TensorScheme& scheme, Timing timing) {
  return scheme.code == Code::kE4M3 && scheme.scale == ScaleFormat::kFloat &&
         scheme.block == BlockShape{1, 0} && scheme.timing == timing;
}

}  // namespace

bool QuarkHolds(const LinearScheme& scheme) {
  if (IsMicroscaled(scheme.weight)) return !scheme.input || IsMicroscaled(*scheme.input);
  return IsPerRow(scheme.weight, Timing::kStatic) && scheme.input &&
         IsPerRow(*scheme.input, Timing::kDynamic);
}

WeightRule QuarkRule(const LinearScheme& scheme) {
  WeightRule rule;
  rule.scale_of_zeros = 0x1p-23f;
  rule.exponent_of_zeros = 1;
  rule.code.zero = IsMicroscaled(scheme.weight) ? ZeroSign::kPositive : ZeroSign::kKept;
  return rule;
}

std::vector<PartTensor> QuarkParts(const SourceLinear& linear, const LinearScheme& scheme) {
  const WeightEncoder encoder(linear.module, scheme.weight, QuarkRule(scheme), linear.type,
                              linear.rows, linear.columns);
  const EncodedSizes& sizes = encoder.sizes();
  const std::string weight = linear.module + ".weight", scale = linear.module + ".weight_scale";
  if (IsMicroscaled(scheme.weight)) {
    return {{LinearPart::kCodes, {weight, Dtype::kU8, {linear.rows, sizes.row_bytes}}},
            {LinearPart::kScale, {scale, Dtype::kU8, {sizes.scale_rows, sizes.scale_columns}}}};
  }
  return {{LinearPart::kCodes, {weight, Dtype::kF8E4M3, {linear.rows, linear.columns}}},
          {LinearPart::kScale, {scale, linear.type, {linear.rows}}}};
}

Json QuarkSchemeConfig(const SchemeDescription& description) {
  const LinearScheme& scheme = description.groups.front().scheme;
  Json global = Json::object();
  global["bias"] = nullptr;
  global["input_tensors"] = nullptr;
  if (scheme.input) global["input_tensors"] = QuarkQuantizer(*scheme.input, QuarkSide::kInput);
  global["output_tensors"] = nullptr;
  global["target_device"] = nullptr;
  global["weight"] = QuarkQuantizer(scheme.weight, QuarkSide::kWeight);
  return QuarkConfigBlock({.excluded = description.ignored, .global = global});
}

}  // namespace narrow
