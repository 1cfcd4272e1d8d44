#include "text/model_tokenizer.h"

#include <utility>

#include "base/error.h"

namespace narrow {

ModelTokenizer::ModelTokenizer(std::filesystem::path directory, int64_t vocabulary,
                               const Json& config, bool begins_windows)
    : directory_(std::move(directory)), vocabulary_(vocabulary), begins_windows_(begins_windows) {
  // Nothing is computed from it, so whatever else it may be is not refused.
  const auto found = config.find("bos_token_id");
  if (found != config.end() && found->is_number_integer()) begin_of_text_ = found->get<int64_t>();
}

const Tokenizer& ModelTokenizer::Get() {
  if (!tokenizer_) tokenizer_ = Tokenizer::FromDirectory(directory_.string());
  return *tokenizer_;
}

const Tokenizer* ModelTokenizer::GetIfAny() {
  try {
    return &Get();
  } catch (const Error&) {
    return nullptr;
  }
}

}  // namespace narrow
