// Any bytes as the header of a GGUF file to import: refused with an Error, or a config and a
// tokenizer that this program reads.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "import/config_json.h"
#include "import/gguf_model.h"
#include "import/metadata.h"
#include "import/tokenizer_json.h"
#include "import/tokenizer_source.h"
#include "io/gguf.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

void Import(const GgufHeader& header) {
  const GgufMetadata metadata(header, "input");
  std::vector<GgufSource> sources;
  for (const GgufTensor& tensor : header.tensors) sources.push_back({&tensor, nullptr});
  const GgufTensors tensors(sources, "input");
  const GgufModel model = ReadGgufModel(metadata, tensors);
  for (const ImportedTensor& tensor : MapTensors(model, tensors)) {
    NARROW_CHECK(tensor.source.tensor != nullptr && !tensor.name.empty());
  }
  const TokenizerSource source =
      ReadTokenizerSource(metadata, std::nullopt, model.architecture->pieces);
  const Tokenizer tokenizer = Tokenizer::FromJson(TokenizerJson(source, "input").dump(), "input");
  for (const int32_t id : tokenizer.Encode("some text, 12", SpecialTokens::kAdd)) {
    NARROW_CHECK(id >= 0 && id < tokenizer.vocabulary_size());
  }
  static_cast<void>(ConfigJson(metadata, model, source).dump());
}

}  // namespace
}  // namespace narrow

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using narrow::ErrorCode;
  const std::span<const uint8_t> bytes(data, size);
  const int64_t file_bytes = static_cast<int64_t>(size) + 65536;  // zeros after them
  const auto read = [&](int64_t offset, std::span<std::byte> into) {
    for (std::byte& byte : into) {
      byte = offset < std::ssize(bytes) ? std::byte{bytes[static_cast<std::size_t>(offset)]}
                                        : std::byte{0};
      ++offset;
    }
  };
  try {
    narrow::Import(narrow::ParseGguf(read, file_bytes, "input"));
  } catch (const narrow::Error& error) {
    NARROW_CHECK(error.code() == ErrorCode::kCorruptInput ||
                 error.code() == ErrorCode::kUnsupported);
  }
  return 0;
}
