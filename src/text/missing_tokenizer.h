// What to say of a model directory without a tokenizer.json.
#pragma once

#include <filesystem>

namespace narrow {

// Throws: kNotFound, naming what the directory has in place of tokenizer.json (tokenizer.model,
// vocab.json, a link that leads nowhere) and how to make or get one.
[[noreturn]] void FailWithoutTokenizer(const std::filesystem::path& directory);

}  // namespace narrow
