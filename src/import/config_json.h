// config.json and generation_config.json of an imported model.
#pragma once

#include "import/gguf_model.h"
#include "import/metadata.h"
#include "import/tokenizer_source.h"
#include "io/json.h"

namespace narrow {

// As transformers writes it for the same model, members in order of their names. Throws: as
// RopeScalingJson and the architecture's own function.
Json ConfigJson(const GgufMetadata& metadata, const GgufModel& model,
                const TokenizerSource& tokenizer);
Json GenerationConfigJson(const TokenizerSource& tokenizer);

}  // namespace narrow
