// What config.json says of each family that `narrow import` knows, beside what is common to all.
// Each takes its members from the metadata and adds them. Throws: as GgufMetadata; kUnsupported.
#pragma once

#include "import/gguf_model.h"

namespace narrow {

void LlamaConfig(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Qwen2Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Qwen3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void GraniteConfig(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void GemmaConfig(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Gemma2Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Gemma3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Phi3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Olmo2Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Olmo3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Glm4Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Ernie45Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void SeedOssConfig(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Exaone4Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void HunYuanDenseConfig(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Ministral3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void StableLmConfig(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void SmolLm3Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Starcoder2Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void NemotronConfig(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void CohereConfig(const GgufMetadata& metadata, const GgufModel& model, Json& config);
void Cohere2Config(const GgufMetadata& metadata, const GgufModel& model, Json& config);

}  // namespace narrow
