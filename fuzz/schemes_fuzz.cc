// Any text as a config block of a quantized checkpoint, and as a recipe: refused with an Error, or
// an answer for every module.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "formats/stored_schemes.h"
#include "io/json.h"
#include "jobs/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using narrow::ErrorCode;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string module = "model.layers.11.mlp.up_proj";
  try {
    const narrow::Json block = narrow::ParseJson(text, "block");
    if (block.is_object()) {
      const auto schemes = narrow::StoredSchemes::Parse(block);
      if (schemes) NARROW_CHECK(!schemes->Ignores(module) || schemes->Find(module) == nullptr);
    }
  } catch (const narrow::Error& error) {
    NARROW_CHECK(error.code() == ErrorCode::kCorruptInput ||
                 error.code() == ErrorCode::kUnsupported);
  }
  try {
    const narrow::Recipe recipe = narrow::ParseRecipe(text, "recipe");
    NARROW_CHECK(!recipe.Schemes().empty());
    static_cast<void>(recipe.Find(module));
  } catch (const narrow::Error& error) {
    NARROW_CHECK(error.code() == ErrorCode::kCorruptInput ||
                 error.code() == ErrorCode::kInvalidArgument);
  }
  return 0;
}
