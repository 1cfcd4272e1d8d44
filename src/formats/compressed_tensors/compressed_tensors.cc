#include "formats/compressed_tensors/compressed_tensors.h"

#include <set>
#include <string>
#include <string_view>

#include "base/error.h"
#include "schemes/weight_encoder.h"

namespace narrow {
namespace {

// The release whose layout this is.
constexpr std::string_view kVersion = "0.19.0";

bool IsPacked(const TensorScheme& scheme) { return CodeBits(scheme.code) == 4; }

std::string_view FormatName(const TensorScheme& weight) {
  if (weight.code == Code::kInt8) return "int-quantized";
  if (weight.code == Code::kInt4) return "pack-quantized";
  if (weight.scale == ScaleFormat::kE4M3WithGlobal) return "nvfp4-pack-quantized";
  if (weight.scale == ScaleFormat::kPowerOfTwo) {
    return weight.code == Code::kE2M1 ? "mxfp4-pack-quantized" : "mxfp8-quantized";
  }
  return "float-quantized";
}

enum class Side { kWeight, kInput };

std::string_view Strategy(const TensorScheme& scheme, Side side) {
  if (scheme.scale == ScaleFormat::kE4M3WithGlobal) return "tensor_group";
  if (scheme.block.rows > 1) return "block";
  if (scheme.block.columns > 0) return "group";
  if (scheme.block.rows == 0) return "tensor";
  return side == Side::kWeight ? "channel" : "token";
}

// Which observer made the scales; of scales made while serving none.
Json Observer(const TensorScheme& scheme, Side side) {
  if (side == Side::kWeight) return "memoryless_minmax";
  if (scheme.timing == Timing::kStatic || scheme.scale == ScaleFormat::kE4M3WithGlobal) {
    return "static_minmax";
  }
  return nullptr;
}

Json Arguments(const TensorScheme& scheme, Side side) {
  const std::string_view strategy = Strategy(scheme, side);
  Json json = Json::object();
  json["actorder"] = nullptr;
  json["block_structure"] = nullptr;
  if (strategy == "block") {
    json["block_structure"] = Json::array({scheme.block.rows, scheme.block.columns});
  }
  json["dynamic"] = scheme.timing == Timing::kDynamic;
  if (scheme.timing == Timing::kDynamic && scheme.scale == ScaleFormat::kE4M3WithGlobal) {
    json["dynamic"] = "local";
  }
  json["group_size"] = nullptr;
  if (strategy == "group" || strategy == "tensor_group") json["group_size"] = scheme.block.columns;
  json["num_bits"] = CodeBits(scheme.code);
  json["observer"] = Observer(scheme, side);
  json["observer_kwargs"] = Json::object();
  json["scale_dtype"] = nullptr;
  if (scheme.scale == ScaleFormat::kPowerOfTwo) json["scale_dtype"] = "torch.uint8";
  if (scheme.scale == ScaleFormat::kE4M3WithGlobal) json["scale_dtype"] = "torch.float8_e4m3fn";
  json["strategy"] = strategy;
  json["symmetric"] = scheme.symmetric;
  json["type"] = scheme.code == Code::kInt8 || scheme.code == Code::kInt4 ? "int" : "float";
  json["zp_dtype"] = nullptr;
  if (!scheme.symmetric) json["zp_dtype"] = "torch.int8";
  return json;
}

Json Group(const SchemeGroup& group) {
  Json json = Json::object();
  json["format"] = FormatName(group.scheme.weight);
  json["input_activations"] = nullptr;
  if (group.scheme.input) json["input_activations"] = Arguments(*group.scheme.input, Side::kInput);
  json["output_activations"] = nullptr;
  json["targets"] = group.targets;
  if (group.targets.empty()) json["targets"] = Json::array({"Linear"});
  json["weights"] = Arguments(group.scheme.weight, Side::kWeight);
  return json;
}

}  // namespace

bool CompressedTensorsHolds(const LinearScheme&) { return true; }

WeightRule CompressedTensorsRule(const LinearScheme&) { return {}; }

std::vector<PartTensor> CompressedTensorsParts(const SourceLinear& linear,
                                               const LinearScheme& scheme) {
  const TensorScheme& weight = scheme.weight;
  const WeightEncoder encoder(linear.module, weight, CompressedTensorsRule(scheme), linear.type,
                              linear.rows, linear.columns);
  const EncodedSizes& sizes = encoder.sizes();
  const auto name = [&](std::string_view leaf) {
    return fmt::format("{}.{}", linear.module, leaf);
  };
  Dtype codes = weight.code == Code::kE4M3 ? Dtype::kF8E4M3 : Dtype::kI8;
  int64_t columns = linear.columns;
  if (weight.code == Code::kE2M1) {
    codes = Dtype::kU8;
    columns /= 2;
  } else if (weight.code == Code::kInt4) {
    codes = Dtype::kI32;
    columns /= 8;
  }
  Dtype scale = linear.type;
  if (weight.scale == ScaleFormat::kPowerOfTwo) scale = Dtype::kU8;
  if (weight.scale == ScaleFormat::kE4M3WithGlobal) scale = Dtype::kF8E4M3;
  Shape scale_shape = {sizes.scale_rows, sizes.scale_columns};
  if (weight.block == BlockShape{}) scale_shape = {1};
  std::vector<PartTensor> parts = {
      {LinearPart::kCodes,
       {name(IsPacked(weight) ? "weight_packed" : "weight"), codes, {linear.rows, columns}}},
      {LinearPart::kScale, {name("weight_scale"), scale, scale_shape}}};
  if (weight.code == Code::kInt4) {
    parts.push_back({LinearPart::kShape, {name("weight_shape"), Dtype::kI64, {2}}});
  }
  if (!weight.symmetric) {
    parts.push_back(
        {LinearPart::kZeroPoint,
         {name("weight_zero_point"), Dtype::kI32, {sizes.zero_rows, sizes.scale_columns}}});
  }
  if (weight.scale == ScaleFormat::kE4M3WithGlobal) {
    parts.push_back({LinearPart::kGlobalScale, {name("weight_global_scale"), Dtype::kF32, {1}}});
  }
  if (!scheme.input) return parts;
  if (scheme.input->scale == ScaleFormat::kE4M3WithGlobal) {
    parts.push_back(
        {LinearPart::kInputGlobalScale, {name("input_global_scale"), Dtype::kF32, {1}}});
  } else if (scheme.input->timing == Timing::kStatic) {
    parts.push_back({LinearPart::kInputScale, {name("input_scale"), linear.type, {1}}});
  }
  return parts;
}

Json CompressedTensorsCache(bool per_head) {
  Json cache =
      Arguments({Code::kE4M3, {0, 0}, ScaleFormat::kFloat, Timing::kStatic, true}, Side::kInput);
  if (per_head) cache["strategy"] = "attn_head";
  return cache;
}

Json CompressedTensorsConfig(const SchemeDescription& description) {
  Json groups = Json::object();
  std::set<std::string_view> formats;
  for (std::size_t i = 0; i < description.groups.size(); ++i) {
    const SchemeGroup& group = description.groups[i];
    formats.insert(FormatName(group.scheme.weight));
    groups[fmt::format("group_{}", i)] = Group(group);
  }
  Json config = Json::object();
  config["config_groups"] = groups;
  config["format"] = formats.empty()       ? std::string_view("dense")
                     : formats.size() == 1 ? *formats.begin()
                                           : std::string_view("mixed-precision");
  config["global_compression_ratio"] = nullptr;
  config["ignore"] = description.ignored;
  config["kv_cache_scheme"] = nullptr;
  if (description.cache) config["kv_cache_scheme"] = CompressedTensorsCache(false);
  config["quant_method"] = "compressed-tensors";
  config["quantization_status"] = "compressed";
  config["sparsity_config"] = Json::object();
  config["transform_config"] = Json::object();
  config["version"] = kVersion;
  return config;
}

}  // namespace narrow
