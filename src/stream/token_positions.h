// Where each token of a text is, so that a row of the embedding that passes by once reaches all of
// its places.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace narrow {

class TokenPositions {
 public:
  // `tokens` outlives the object.
  explicit TokenPositions(std::span<const int32_t> tokens);

  // Memory of so many tokens.
  static int64_t Bytes(int64_t tokens) { return tokens * static_cast<int64_t>(sizeof(int64_t)); }

  // Positions of the tokens in [first, first + count), ordered by token.
  std::span<const int64_t> Of(int64_t first, int64_t count) const;

 private:
  std::span<const int32_t> tokens_;
  std::vector<int64_t> positions_;  // ordered by their token
};

}  // namespace narrow
