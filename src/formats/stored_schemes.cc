#include "formats/stored_schemes.h"

#include <fnmatch.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

constexpr std::string_view kConfig = "quantization_config";

[[noreturn]] void FailUnknown(std::string_view what, const std::string& value) {
  Fail(ErrorCode::kUnsupported, "{}: {} {} is not known to this build", kConfig, what,
       Quoted(value));
}

Code CodeOf(int64_t bits, const std::string& type) {
  if (type == "float" && bits == 8) return Code::kE4M3;
  if (type == "float" && bits == 4) return Code::kE2M1;
  if (type == "int" && bits == 8) return Code::kInt8;
  if (type == "int" && bits == 4) return Code::kInt4;
  FailUnknown("type", fmt::format("{} of {} bits", type, bits));
}

// Two sizes of a block.
BlockShape ReadBlock(const Json& sizes, std::string_view what) {
  if (!sizes.is_array() || sizes.size() != 2 || !sizes[0].is_number_integer() ||
      !sizes[1].is_number_integer() || sizes[0].get<int64_t>() <= 0 ||
      sizes[1].get<int64_t>() <= 0) {
    Fail(ErrorCode::kCorruptInput, "{}: {} should be two positive numbers", kConfig, what);
  }
  return {sizes[0].get<int64_t>(), sizes[1].get<int64_t>()};
}

BlockShape BlockOf(const Json& arguments, const std::string& strategy) {
  if (strategy == "tensor") return {0, 0};
  if (strategy == "channel" || strategy == "token") return {1, 0};
  if (strategy == "block") {
    const auto sizes = arguments.find("block_structure");
    return ReadBlock(sizes == arguments.end() ? Json() : *sizes, "block_structure");
  }
  if (strategy != "group" && strategy != "tensor_group") FailUnknown("strategy", strategy);
  const int64_t group = RequiredInt(arguments, "group_size", kConfig);
  if (group <= 0) Fail(ErrorCode::kCorruptInput, "{}: group_size is {}", kConfig, group);
  return {1, group};
}

TensorScheme ReadArguments(const Json& arguments) {
  TensorScheme scheme;
  scheme.code = CodeOf(RequiredInt(arguments, "num_bits", kConfig),
                       RequiredString(arguments, "type", kConfig));
  const std::string strategy = RequiredString(arguments, "strategy", kConfig);
  scheme.block = BlockOf(arguments, strategy);
  const std::string scale = OptionalString(arguments, "scale_dtype", kConfig).value_or("");
  if (strategy == "tensor_group") {
    scheme.scale = ScaleFormat::kE4M3WithGlobal;
  } else if (scale == "torch.uint8") {
    scheme.scale = ScaleFormat::kPowerOfTwo;
  }
  const auto dynamic = arguments.find("dynamic");
  const bool no = dynamic == arguments.end() || dynamic->is_null() || *dynamic == false;
  scheme.timing = no ? Timing::kStatic : Timing::kDynamic;
  scheme.symmetric = OptionalBool(arguments, "symmetric", kConfig).value_or(true);
  return scheme;
}

TensorScheme ReadQuantizer(const Json& quantizer) {
  TensorScheme scheme;
  const std::string type = RequiredString(quantizer, "dtype", kConfig);
  if (type == "fp4") {
    scheme.code = Code::kE2M1;
  } else if (type == "int8") {
    scheme.code = Code::kInt8;
  } else if (type != "fp8_e4m3") {
    FailUnknown("dtype", type);
  }
  const std::string granularity = RequiredString(quantizer, "qscheme", kConfig);
  if (granularity == "per_channel") {
    scheme.block = {1, 0};
  } else if (granularity == "per_group") {
    scheme.block = {1, RequiredInt(quantizer, "group_size", kConfig)};
  } else if (granularity != "per_tensor") {
    FailUnknown("qscheme", granularity);
  }
  if (OptionalString(quantizer, "scale_format", kConfig) == "e8m0") {
    scheme.scale = ScaleFormat::kPowerOfTwo;
  }
  const bool dynamic = OptionalBool(quantizer, "is_dynamic", kConfig).value_or(false);
  scheme.timing = dynamic ? Timing::kDynamic : Timing::kStatic;
  return scheme;
}

}  // namespace

StoredSchemes::Pattern::Pattern(const std::string& text) : text_(text) {
  if (text.starts_with("re:")) regex_.emplace(std::string_view(text).substr(3));
}

bool StoredSchemes::Pattern::Matches(const std::string& module) const {
  if (regex_) {
    const std::optional<TextRange> match = regex_->Find(module, 0);
    return match && match->begin == 0;
  }
  return text_ == module ||
         (text_.find('*') != text_.npos && fnmatch(text_.c_str(), module.c_str(), 0) == 0);
}

void StoredSchemes::AddIgnored(const Json& config, std::string_view key) {
  const Json* list = OptionalArray(config, key, kConfig);
  if (list == nullptr) return;
  for (const Json& name : *list) {
    if (!name.is_string()) {
      Fail(ErrorCode::kCorruptInput, "{}: {} holds a value that is not a string", kConfig, key);
    }
    ignored_.emplace_back(name.get<std::string>());
  }
}

StoredSchemes StoredSchemes::ParseCompressedTensors(const Json& config) {
  StoredSchemes schemes;
  schemes.blocks_are_checked_ = true;
  schemes.AddIgnored(config, "ignore");
  const Json* cache = OptionalObject(config, "kv_cache_scheme", kConfig);
  schemes.cache_scales_ =
      cache != nullptr && OptionalBool(*cache, "dynamic", kConfig).value_or(false) == false;
  const Json* groups = OptionalObject(config, "config_groups", kConfig);
  if (groups == nullptr || groups->empty()) {
    Fail(ErrorCode::kCorruptInput, "{}: config_groups is missing", kConfig);
  }
  for (const auto& [name, group] : groups->items()) {
    if (!group.is_object()) {
      Fail(ErrorCode::kCorruptInput, "{}: {} should be an object", kConfig, Quoted(name));
    }
    const Json* weights = OptionalObject(group, "weights", kConfig);
    if (weights == nullptr) continue;  // of activations alone: no linear's
    Group& added = schemes.groups_.emplace_back();
    added.scheme.weight = ReadArguments(*weights);
    if (const Json* inputs = OptionalObject(group, "input_activations", kConfig)) {
      added.scheme.input = ReadArguments(*inputs);
    }
    if (added.scheme.weight.block.rows > 1) schemes.hints_.block = added.scheme.weight.block;
    const Json* targets = OptionalArray(group, "targets", kConfig);
    for (const Json& target : targets == nullptr ? Json::array() : *targets) {
      if (!target.is_string()) {
        Fail(ErrorCode::kCorruptInput, "{}: targets holds a value that is not a string", kConfig);
      }
      const auto& text = target.get_ref<const std::string&>();
      added.all = added.all || text == "Linear";
      if (text != "Linear") added.targets.emplace_back(text);
    }
  }
  return schemes;
}

StoredSchemes StoredSchemes::ParseFp8Blocks(const Json& config, const Json& block_size) {
  StoredSchemes schemes;
  schemes.AddIgnored(config, "modules_to_not_convert");
  schemes.AddIgnored(config, "ignored_layers");
  const BlockShape block = ReadBlock(block_size, "weight_block_size");
  schemes.hints_.block = block;
  Group& group = schemes.groups_.emplace_back();
  group.all = true;
  group.scheme.weight.block = block;
  group.scheme.input =
      TensorScheme{Code::kE4M3, {1, block.columns}, ScaleFormat::kFloat, Timing::kDynamic, true};
  return schemes;
}

StoredSchemes StoredSchemes::ParseQuark(const Json& config, const Json& global,
                                        const Json& weight) {
  StoredSchemes schemes;
  schemes.AddIgnored(config, "exclude");
  Group& group = schemes.groups_.emplace_back();
  group.all = true;
  group.scheme.weight = ReadQuantizer(weight);
  if (const Json* inputs = OptionalObject(global, "input_tensors", kConfig)) {
    group.scheme.input = ReadQuantizer(*inputs);
  }
  return schemes;
}

std::optional<StoredSchemes> StoredSchemes::Parse(const Json& config) {
  const std::string method = OptionalString(config, "quant_method", kConfig).value_or("");
  if (method == "compressed-tensors") return ParseCompressedTensors(config);
  if (method == "fp8") {
    const auto block = config.find("weight_block_size");
    if (block == config.end() || block->is_null()) return std::nullopt;
    return ParseFp8Blocks(config, *block);
  }
  if (method != "quark") return std::nullopt;
  const Json* global = OptionalObject(config, "global_quant_config", kConfig);
  const Json* weight = global == nullptr ? nullptr : OptionalObject(*global, "weight", kConfig);
  if (weight == nullptr || OptionalString(*weight, "qscheme", kConfig) == "per_tensor") {
    return std::nullopt;
  }
  return ParseQuark(config, *global, *weight);
}

bool StoredSchemes::Ignores(const std::string& module) const {
  return std::ranges::any_of(ignored_,
                             [&](const Pattern& pattern) { return pattern.Matches(module); });
}

const LinearScheme* StoredSchemes::Find(const std::string& module) const {
  if (Ignores(module)) return nullptr;
  for (const Group& group : groups_) {
    if (std::ranges::any_of(group.targets,
                            [&](const Pattern& pattern) { return pattern.Matches(module); })) {
      return &group.scheme;
    }
  }
  const auto all = std::ranges::find_if(groups_, &Group::all);
  return all == groups_.end() ? nullptr : &all->scheme;
}

std::string DescribeScheme(const TensorScheme& scheme) {
  std::string text = scheme.code == Code::kE4M3   ? "FP8"
                     : scheme.code == Code::kE2M1 ? "FP4"
                     : scheme.code == Code::kInt8 ? "INT8"
                                                  : "INT4";
  if (scheme.block.rows > 1) {
    text += fmt::format(" in blocks of {} x {}", scheme.block.rows, scheme.block.columns);
  } else if (scheme.block.columns > 0) {
    text += fmt::format(" in groups of {}", scheme.block.columns);
  } else {
    text += scheme.block.rows == 0 ? " per tensor" : " per channel";
  }
  if (scheme.scale == ScaleFormat::kPowerOfTwo) text += " with E8M0 scales";
  if (scheme.scale == ScaleFormat::kE4M3WithGlobal) text += " with E4M3 scales and a global one";
  if (!scheme.symmetric) text += " with zero points";
  return text;
}

}  // namespace narrow
