// config.json and generation_config.json of an imported model, in the keys of transformers 4.
#pragma once

#include "import/llama_model.h"
#include "import/tokenizer_source.h"
#include "io/json.h"

namespace narrow {

Json ConfigJson(const LlamaModel& model, const TokenizerSource& tokenizer);
Json GenerationConfigJson(const TokenizerSource& tokenizer);

}  // namespace narrow
