// tokenizer.json and tokenizer_config.json as Hugging Face has them for the same tokenizers.
#pragma once

#include <string>

#include "import/tokenizer_source.h"
#include "io/json.h"

namespace narrow {

// Throws: as MergesJson does. `what` names the file in messages.
Json TokenizerJson(const TokenizerSource& source, const std::string& what);

// `context`: positions of the model.
Json TokenizerConfigJson(const TokenizerSource& source, int64_t context);

}  // namespace narrow
