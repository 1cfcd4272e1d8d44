#include "model/model_source.h"

#include <algorithm>
#include <utility>

#include "formats/stored_schemes.h"
#include "io/model_directory.h"
#include "model/cache_scales.h"
#include "model/head.h"
#include "model/served_otherwise.h"
#include "model/stored_layer.h"
#include "model/wrapper.h"

namespace narrow {
namespace {

// config.json of a quantized checkpoint, as the base model's would be. Throws: kUnsupported for
// schemes that are not known.
Json WithoutQuantization(const Json& config, const std::string& what) {
  const Json* quantization = OptionalObject(config, "quantization_config", what);
  if (quantization == nullptr) return config;
  const std::string method = RequiredString(*quantization, "quant_method", what);
  if (method != "fp8" && method != "quark" && method != "compressed-tensors") {
    Fail(ErrorCode::kUnsupported,
         "{}: quantization method {} cannot be evaluated; expected compressed-tensors, fp8 or "
         "quark",
         what, Quoted(method));
  }
  const bool stated = StoredSchemes::Parse(*quantization).has_value();
  if (method == "fp8" && !stated &&
      OptionalString(*quantization, "activation_scheme", what).value_or("") != "static") {
    Fail(ErrorCode::kUnsupported,
         "{}: without blocks, only activation_scheme \"static\" can be evaluated", what);
  }
  Json plain = config;
  plain.erase("quantization_config");
  return plain;
}

void ChooseFactors(RopeFactors factors, RopeConfig& rope) {
  if (factors == RopeFactors::kServed) return;
  if (rope.kind != RopeConfig::Kind::kLongRope) {
    Fail(ErrorCode::kInvalidArgument,
         "--rope_factors: the model's rotation has no short and long factors (rope_type "
         "\"longrope\"); leave the flag out");
  }
  rope.factors = factors == RopeFactors::kShort ? rope.short_factors : rope.long_factors;
}

}  // namespace

Json WithoutStatedSchemes(const Json& config) {
  const auto block = config.find("quantization_config");
  if (block == config.end() || !block->is_object() || !StoredSchemes::Parse(*block)) return config;
  Json plain = config;
  plain.erase("quantization_config");
  return plain;
}

std::string RopeFactorsInUse(const DecoderConfig& config) {
  if (config.rope.kind != RopeConfig::Kind::kLongRope) return "";
  return config.rope.factors == config.rope.short_factors ? "short" : "long";
}

DescribedModel DescribeModel(const Json& config, const std::string& what) {
  const std::optional<Json> language = LanguagePart(config, what);
  const Json& decoder = language ? *language : config;
  const ModelFamily& family = FindModelFamily(decoder, what);
  return {&family, family.parse_config(decoder, what), language.has_value()};
}

ModelSource OpenModel(const std::filesystem::path& directory, WeightState weights,
                      RopeFactors factors) {
  return OpenModel(FindCheckpointFiles(directory), weights, factors);
}

ModelSource OpenModel(CheckpointFiles files, WeightState weights, RopeFactors factors) {
  const std::filesystem::path directory = files.directory;
  ModelSource source;
  source.checkpoint = std::make_unique<CheckpointReader>(std::move(files));
  const std::string what = "config.json of " + directory.string();
  const Json& config = source.checkpoint->config();
  const Json plain = weights == WeightState::kQuantizedToo  ? WithoutQuantization(config, what)
                     : weights == WeightState::kDequantized ? WithoutStatedSchemes(config)
                                                            : config;
  DescribedModel described = DescribeModel(plain, what);
  source.family = described.family;
  source.config = std::move(described.config);
  const auto has = [&](const std::string& name) {
    return source.checkpoint->Find(name) != nullptr || source.checkpoint->absent().contains(name);
  };
  if (described.multimodal) {
    source.config.names = LanguageNames(has, directory.string());
    source.config.others = OtherTensors(*source.checkpoint, source.config.names);
  } else if (source.family->predicts_further) {
    source.config.others = PredictorTensors(*source.checkpoint, source.config);
  }
  if (source.config.prediction_layers > 0) {
    const std::vector<OtherTensor> after = TensorsAfterLayers(*source.checkpoint, source.config);
    source.config.others.insert(source.config.others.end(), after.begin(), after.end());
  }
  SettleExperts(*source.family, source.config, has);
  ChooseFactors(factors, source.config.rope);
  const auto warn = [&](const std::vector<std::string>& warnings) {
    source.warnings.insert(source.warnings.end(), warnings.begin(), warnings.end());
  };
  warn(source.checkpoint->remarks());
  const Json language = LanguagePart(plain, what).value_or(plain);
  if (const auto remark = ServedOtherwise(language, source.family->architecture, what)) {
    warn({*remark});
  }
  if (const auto adapter = AdapterRemark(directory)) warn({*adapter});
  if (!source.config.dtype_stated) {
    const std::string embedding = source.family->model(source.config).embedding;
    if (const auto* found = source.checkpoint->Find(embedding)) {
      source.config.dtype = found->entry.dtype;
    }
  }
  warn(SettleHead(*source.family, source.config, *source.checkpoint));
  warn(CheckWeights(*source.family, source.config, *source.checkpoint, weights));
  if (weights == WeightState::kQuantizedToo) {
    CheckScaleValues(*source.checkpoint, *source.family, source.config);
  }
  return source;
}

bool HasFloat8Cache(const ModelSource& model) {
  return HasCacheScales(*model.checkpoint, LayersOf(*model.family, model.config));
}

ComputeType ChooseComputeType(DataType data_type) {
  if (data_type == DataType::kFloat32) return ComputeType::kFloat32;
  const ComputeType native = NativeComputeType();
  if (data_type == DataType::kBfloat16 && native != ComputeType::kBfloat16) {
    Fail(ErrorCode::kUnsupported,
         "this CPU has no bfloat16 products ({}); use --data_type auto or float32",
         InstructionSetName());
  }
  return native;
}

}  // namespace narrow
