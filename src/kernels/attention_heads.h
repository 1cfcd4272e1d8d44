// How many heads attention has, and how wide they are.
#pragma once

#include <cstdint>

namespace narrow {

struct AttentionHeads {
  int64_t query_heads = 0;
  int64_t key_value_heads = 0;  // divides query_heads (grouped-query attention)
  int64_t head_size = 0;

  int64_t query_width() const { return query_heads * head_size; }
  int64_t key_value_width() const { return key_value_heads * head_size; }
  // Query heads that share a key-value head.
  int64_t sharing() const { return query_heads / key_value_heads; }
};

}  // namespace narrow
