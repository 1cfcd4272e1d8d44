#include "formats/fp8/fp8.h"

#include "formats/quark_layout.h"

namespace narrow {

Json Fp8QuantizationConfig(const QuantizedCheckpointDescription& description) {
  Json config = Json::object();
  config["activation_scheme"] = "static";
  config["export"] = QuarkExportBlock(description);
  config["ignored_layers"] = description.excluded_linears;
  config["kv_cache_scheme"] = nullptr;
  if (description.kv_cache == KvCacheQuantization::kFp8) config["kv_cache_scheme"] = "static";
  config["quant_method"] = "fp8";
  return config;
}

AttentionScaleTensors Fp8AttentionScaleTensors(const AttentionModule& attention) {
  return {ScalarScale(attention.name + ".q_scale"), ScalarScale(attention.name + ".k_scale"),
          ScalarScale(attention.name + ".v_scale")};
}

}  // namespace narrow
