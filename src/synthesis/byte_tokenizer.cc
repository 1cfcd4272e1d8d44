#include "synthesis/byte_tokenizer.h"

#include <string>

#include "io/file.h"
#include "io/json.h"
#include "text/byte_level.h"

namespace narrow {
namespace {

constexpr const char* kBeginToken = "<|begin_of_text|>";
constexpr const char* kEndToken = "<|end_of_text|>";

Json SpecialToken(const char* content, int64_t id) {
  return Json{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
              {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json BeginOfText() { return Json{{"SpecialToken", {{"id", kBeginToken}, {"type_id", 0}}}}; }

Json Text(const char* name, int type) {
  return Json{{"Sequence", {{"id", name}, {"type_id", type}}}};
}

// Puts the begin token before every text.
Json PostProcessor() {
  Json begin = Json{{"id", kBeginToken},
                    {"ids", Json::array({kByteTokenizerBegin})},
                    {"tokens", Json::array({kBeginToken})}};
  return Json{{"type", "TemplateProcessing"},
              {"single", Json::array({BeginOfText(), Text("A", 0)})},
              {"pair", Json::array({BeginOfText(), Text("A", 0), Text("B", 1)})},
              {"special_tokens", {{kBeginToken, std::move(begin)}}}};
}

Json TokenizerJson() {
  Json vocabulary = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[std::string(ByteLevelCharacter(static_cast<uint8_t>(byte)))] = byte;
  }
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  Json model = {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", false},
                {"vocab", std::move(vocabulary)},
                {"merges", Json::array()}};
  return Json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", Json::array({SpecialToken(kBeginToken, kByteTokenizerBegin),
                                            SpecialToken(kEndToken, kByteTokenizerEnd)})},
              {"normalizer", nullptr},
              {"pre_tokenizer", byte_level},
              {"post_processor", PostProcessor()},
              {"decoder", byte_level},
              {"model", std::move(model)}};
}

}  // namespace

void WriteByteTokenizer(const std::filesystem::path& directory) {
  const Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                       {"bos_token", kBeginToken},
                       {"eos_token", kEndToken},
                       {"clean_up_tokenization_spaces", false}};
  WriteFileAtomically(directory / "tokenizer.json", TokenizerJson().dump(2) + "\n");
  WriteFileAtomically(directory / "tokenizer_config.json", config.dump(2) + "\n");
}

}  // namespace narrow
