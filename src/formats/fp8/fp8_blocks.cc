#include "formats/fp8/fp8_blocks.h"

#include "schemes/weight_encoder.h"

namespace narrow {

bool Fp8BlocksHolds(const LinearScheme& scheme) {
  return scheme.weight.code == Code::kE4M3 && scheme.weight.scale == ScaleFormat::kFloat &&
         scheme.weight.block.rows > 1 && scheme.input && scheme.input->timing == Timing::kDynamic;
}

WeightRule Fp8BlocksRule(const LinearScheme&) {
  WeightRule rule;
  rule.float_scale = WeightRule::FloatScale::kReciprocal;
  rule.code = {Quotient::kProduct, ZeroSign::kKept};
  return rule;
}

std::vector<PartTensor> Fp8BlocksParts(const SourceLinear& linear, const LinearScheme& scheme) {
  const WeightEncoder encoder(linear.module, scheme.weight, Fp8BlocksRule(scheme), linear.type,
                              linear.rows, linear.columns);
  const EncodedSizes& sizes = encoder.sizes();
  return {{LinearPart::kCodes,
           {linear.module + ".weight", Dtype::kF8E4M3, {linear.rows, linear.columns}}},
          {LinearPart::kScale,
           {linear.module + ".weight_scale_inv",
            Dtype::kF32,
            {sizes.scale_rows, sizes.scale_columns}}}};
}

Json Fp8BlocksConfig(const SchemeDescription& description) {
  const BlockShape& block = description.groups.front().scheme.weight.block;
  Json config = Json::object();
  config["activation_scheme"] = "dynamic";
  config["modules_to_not_convert"] = description.ignored;
  config["quant_method"] = "fp8";
  config["weight_block_size"] = Json::array({block.rows, block.columns});
  return config;
}

}  // namespace narrow
