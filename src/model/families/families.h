// The families this build knows: one file and one row of the table in model/family.cc each.
#pragma once

#include "model/family.h"

namespace narrow {

ModelFamily Cohere2Family();
ModelFamily CohereFamily();
ModelFamily Ernie45Family();
ModelFamily Exaone4Family();
ModelFamily Gemma2Family();
ModelFamily Gemma3Family();
ModelFamily GemmaFamily();
ModelFamily Glm4Family();
ModelFamily GraniteFamily();
ModelFamily HunYuanDenseFamily();
ModelFamily LlamaFamily();
ModelFamily MinistralFamily();
ModelFamily Ministral3Family();
ModelFamily MistralFamily();
ModelFamily NemotronFamily();
ModelFamily Olmo2Family();
ModelFamily Olmo3Family();
ModelFamily Phi3Family();
ModelFamily Qwen2Family();
ModelFamily Qwen3Family();
ModelFamily SeedOssFamily();
ModelFamily SmolLm3Family();
ModelFamily Starcoder2Family();

}  // namespace narrow
