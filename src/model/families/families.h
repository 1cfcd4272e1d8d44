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
ModelFamily Glm4MoeFamily();
ModelFamily GptOssFamily();
ModelFamily GraniteFamily();
ModelFamily GraniteMoeFamily();
ModelFamily HunYuanDenseFamily();
ModelFamily Llama4Family();
ModelFamily LlamaFamily();
ModelFamily MiniMaxM2Family();
ModelFamily MinistralFamily();
ModelFamily Ministral3Family();
ModelFamily MistralFamily();
ModelFamily MixtralFamily();
ModelFamily NemotronFamily();
ModelFamily Olmo2Family();
ModelFamily Olmo3Family();
ModelFamily OlmoeFamily();
ModelFamily Phi3Family();
ModelFamily Qwen2Family();
ModelFamily Qwen2MoeFamily();
ModelFamily Qwen35Family();
ModelFamily Qwen35MoeFamily();
ModelFamily Qwen3NextFamily();
ModelFamily DeepseekV3Family();
ModelFamily DeepseekV32Family();
ModelFamily GlmMoeDsaFamily();
ModelFamily Qwen3Family();
ModelFamily Qwen3MoeFamily();
ModelFamily SeedOssFamily();
ModelFamily SmolLm3Family();
ModelFamily StableLmFamily();
ModelFamily Starcoder2Family();

}  // namespace narrow
