// Any bytes as state.json of a work directory are refused with an Error or give a state whose
// numbers can be used as they are.
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "stream/run_state.h"

namespace narrow {
namespace {

void Check(const RunState& state) {
  NARROW_CHECK(state.layers_done == std::ssize(state.layers));
  for (const auto& [stream, generation] : state.hidden_generations) {
    NARROW_CHECK(generation == 0 || generation == 1);
  }
  for (const LayerFacts& layer : state.layers) {
    for (const LinearFacts& linear : layer.linears) {
      const auto role = static_cast<int>(linear.role);
      NARROW_CHECK(role >= 0 && role <= static_cast<int>(WeightRole::kLmHead));
      NARROW_CHECK(static_cast<std::size_t>(linear.group) < kLinearGroupCount);
    }
  }
  if (!state.kept) return;
  for (const LayerGroup& group : state.kept->groups) {
    NARROW_CHECK(group.layer >= 0 && static_cast<std::size_t>(group.group) < kLinearGroupCount);
  }
}

}  // namespace
}  // namespace narrow

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using narrow::ErrorCode;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    narrow::Check(narrow::ParseRunState(text, "state.json"));
  } catch (const narrow::Error& error) {
    const std::string_view message = error.what();
    NARROW_CHECK(message.find('\n') == message.npos && message.size() < 800);
    NARROW_CHECK(error.code() == ErrorCode::kCorruptInput ||
                 error.code() == ErrorCode::kUnsupported);
  }
  return 0;
}
