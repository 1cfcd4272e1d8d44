#include "import/tokenizer_json.h"

#include <utility>

#include "import/byte_pair_vocabulary.h"

namespace narrow {
namespace {

Json Sequence(const char* member, Json items) {
  Json sequence = {{"type", "Sequence"}};
  sequence[member] = std::move(items);
  return sequence;
}

Json ReplaceString(const char* from, const char* to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

Json Normalizer(const TokenizerSource& source) {
  if (source.splitting != nullptr) {
    return source.splitting->nfc ? Json::object({{"type", "NFC"}}) : Json(nullptr);
  }
  Json steps = Json::array();
  if (source.add_space_prefix) steps.push_back({{"type", "Prepend"}, {"prepend", kSpaceMark}});
  steps.push_back(ReplaceString(" ", kSpaceMark));
  return Sequence("normalizers", std::move(steps));
}

void AppendSpecial(const TokenizerSource& source, int64_t id, int type_id, Json& pieces) {
  pieces.push_back({{"SpecialToken", {{"id", source.Token(id)}, {"type_id", type_id}}}});
}

Json Template(const TokenizerSource& source) {
  const auto append_text = [&](const char* name, int type_id, Json& pieces) {
    if (source.add_bos) AppendSpecial(source, *source.bos, type_id, pieces);
    pieces.push_back({{"Sequence", {{"id", name}, {"type_id", type_id}}}});
    if (source.add_eos) AppendSpecial(source, *source.eos, type_id, pieces);
  };
  Json single = Json::array();
  append_text("A", 0, single);
  Json pair = single;
  append_text("B", 1, pair);
  Json special = Json::object();
  const auto define = [&](int64_t id) {
    const std::string& token = source.Token(id);
    special[token] = {{"id", token}, {"ids", Json::array({id})}, {"tokens", Json::array({token})}};
  };
  if (source.add_bos) define(*source.bos);
  if (source.add_eos) define(*source.eos);
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(special)}};
}

Json PostProcessor(const TokenizerSource& source) {
  const bool adds = source.add_bos || source.add_eos;
  // Llama 3's own file has the step that moves offsets in front; it does not change ids.
  if (source.splitting == nullptr || !source.splitting->ignore_merges) {
    return adds ? Template(source) : Json(nullptr);
  }
  Json steps = Json::array();
  steps.push_back(ByteLevelJson(PrefixSpace::kYes, TrimOffsets::kNo, WordRegex::kYes));
  if (adds) steps.push_back(Template(source));
  return Sequence("processors", std::move(steps));
}

Json Decoder(const TokenizerSource& source) {
  if (source.splitting != nullptr) {
    return ByteLevelJson(PrefixSpace::kYes, TrimOffsets::kYes, WordRegex::kYes);
  }
  Json steps = Json::array();
  steps.push_back(ReplaceString(kSpaceMark, " "));
  steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  if (source.add_space_prefix) {
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return Sequence("decoders", std::move(steps));
}

Json Model(const TokenizerSource& source, const std::string& what) {
  const bool sentence_piece = source.kind == TokenizerKind::kSentencePiece;
  Json model = {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", sentence_piece},
                {"byte_fallback", sentence_piece},
                {"ignore_merges", source.splitting != nullptr && source.splitting->ignore_merges}};
  if (sentence_piece) model["unk_token"] = source.Token(*source.unknown);
  model["vocab"] = VocabularyJson(source);
  model["merges"] = MergesJson(source, what);
  return model;
}

Json AddedTokenFlags(const TokenizerSource& source, int64_t id) {
  return {{"content", source.Token(id)},
          {"single_word", false},
          {"lstrip", false},
          {"rstrip", false},
          {"normalized", false},
          {"special", source.Special(id)}};
}

}  // namespace

Json TokenizerJson(const TokenizerSource& source, const std::string& what) {
  Json added = Json::array();
  for (int64_t id = 0; id < static_cast<int64_t>(source.tokens.size()); ++id) {
    if (!source.Added(id)) continue;
    Json token = {{"id", id}};
    token.update(AddedTokenFlags(source, id));
    added.push_back(std::move(token));
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", Normalizer(source)},
          {"pre_tokenizer",
           source.splitting != nullptr ? source.splitting->pre_tokenizer() : Json(nullptr)},
          {"post_processor", PostProcessor(source)},
          {"decoder", Decoder(source)},
          {"model", Model(source, what)}};
}

Json TokenizerConfigJson(const TokenizerSource& source, int64_t context) {
  Json added = Json::object();
  auto& members = added.get_ref<Json::object_t&>();
  for (int64_t id = 0; id < static_cast<int64_t>(source.tokens.size()); ++id) {
    if (!source.Added(id)) continue;
    static_cast<Json::object_t::Container&>(members).emplace_back(std::to_string(id),
                                                                  AddedTokenFlags(source, id));
  }
  const auto token = [&](const std::optional<int64_t>& id) {
    return id ? Json(source.Token(*id)) : Json(nullptr);
  };
  Json config = {{"add_bos_token", source.add_bos},
                 {"add_eos_token", source.add_eos},
                 {"added_tokens_decoder", std::move(added)},
                 {"bos_token", token(source.bos)},
                 {"clean_up_tokenization_spaces", false},
                 {"eos_token", token(source.eos)},
                 {"model_input_names", Json::array({"input_ids", "attention_mask"})},
                 {"model_max_length", context},
                 {"pad_token", token(source.padding)},
                 {"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"unk_token", token(source.unknown)}};
  if (source.chat_template) config["chat_template"] = *source.chat_template;
  return config;
}

}  // namespace narrow
