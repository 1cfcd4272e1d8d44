// Byte-pair-encoding tokenizers from a Hugging Face tokenizer.json, token for token what the
// `tokenizers` library gives.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace narrow {

enum class SpecialTokens { kAdd, kNone };

// Immutable after construction. Thread-safe.
class Tokenizer {
 public:
  // `json` is the text of a tokenizer.json, `what` names it in messages. Throws: kCorruptInput when
  // it contradicts itself; kUnsupported naming the component (model, normalizer, pre-tokenizer,
  // post-processor) that this build does not implement.
  static Tokenizer FromJson(std::string_view json, std::string_view what);
  // tokenizer.json of a checkpoint directory, with the added tokens that stand only in the files
  // beside it (tokenizer_config.h). Throws: kNotFound and as FromJson does.
  static Tokenizer FromDirectory(const std::string& directory);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Ids of `text`. Throws: kCorruptInput with the byte offset when `text` is not valid UTF-8.
  std::vector<int32_t> Encode(std::string_view text, SpecialTokens special_tokens) const;

  // What kAdd puts before a text, such as the begin-of-text token; empty for nothing.
  std::vector<int32_t> LeadingSpecialTokens() const;

  // One more than the largest id.
  int64_t vocabulary_size() const;
  // The bytes a token stands for (for showing a token to a person); empty for an unknown id.
  std::string TokenText(int32_t id) const;

 private:
  struct Implementation;
  explicit Tokenizer(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace narrow
