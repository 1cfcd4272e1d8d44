#include "text/missing_tokenizer.h"

#include <string>
#include <system_error>

#include "base/error.h"
#include "io/file.h"

namespace narrow {

void FailWithoutTokenizer(const std::filesystem::path& directory) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored)) {
    Fail(ErrorCode::kNotFound, "{}: no such directory; expected one with a tokenizer.json",
         directory.string());
  }
  const std::string dangling = DanglingLinkNote(directory / "tokenizer.json");
  for (const char* name :
       {"tokenizer.model", "vocab.json", "merges.txt", "tiktoken.model", "tekken.json"}) {
    if (!dangling.empty() || !std::filesystem::exists(directory / name, ignored)) continue;
    Fail(ErrorCode::kNotFound,
         "{0}: no tokenizer.json; there is {1}, which narrow does not read; make one of it with "
         "transformers: python3 -c \"from transformers import AutoTokenizer; "
         "AutoTokenizer.from_pretrained('{0}').save_pretrained('{0}')\"",
         directory.string(), name);
  }
  Fail(ErrorCode::kNotFound,
       "{}: no tokenizer.json{}; copy or download the one that belongs to the model",
       directory.string(), dangling);
}

}  // namespace narrow
