// Member "post_processor" of a tokenizer.json: the special tokens around a text.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "io/json.h"

namespace narrow {

// TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel (which moves offsets only) and
// Sequence. Immutable, thread-safe.
class PostProcessor {
 public:
  // Reads the member of `tokenizer`, which may be null or absent. Throws: kUnsupported naming
  // another post-processor; kCorruptInput (ids negative or huge, a special token that is not
  // described), kUnsupported (two that add tokens).
  PostProcessor(const Json& tokenizer, std::string_view what);

  // The ids with special tokens where the template wants them.
  std::vector<int32_t> AddSpecialTokens(std::vector<int32_t> ids) const;
  // The ids as the template leaves them when special tokens are not wanted.
  std::vector<int32_t> Pass(std::vector<int32_t> ids) const;
  int32_t largest_id() const { return largest_id_; }  // -1 for none

 private:
  // One place of a template: the text, or special tokens.
  struct Piece {
    bool text = false;
    std::vector<int32_t> ids;
  };
  using Template = std::vector<Piece>;
  void Add(const Json& processor, std::string_view what, int depth);
  void AddTemplate(const Json& processor, std::string_view what);
  void AddPair(const Json& processor, std::string_view what);
  void Append(Template pieces, std::string_view what);
  int32_t ReadId(const Json& value, std::string_view name, std::string_view what);
  std::vector<int32_t> ReadSpecialToken(const Json& processor, std::string_view name,
                                        std::string_view what);

  Template pieces_;        // empty: nothing is added
  bool discards_ = false;  // a template in which the text does not stand
  int32_t largest_id_ = -1;
};

}  // namespace narrow
