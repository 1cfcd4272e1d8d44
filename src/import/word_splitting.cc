#include "import/word_splitting.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

// Sources: the tokenizer.json of each model; which names mean the same: llama.cpp's
// src/llama-vocab.cpp (2025).
constexpr const char* kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kSeedCoderWords =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekkenWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4oWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepSeek3Words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json Split(const char* pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json Digits() { return {{"type", "Digits"}, {"individual_digits", true}}; }

Json Sequence(Json steps, WordRegex regex) {
  steps.push_back(ByteLevelJson(PrefixSpace::kNo, TrimOffsets::kYes, regex));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

Json Gpt2() { return ByteLevelJson(PrefixSpace::kNo, TrimOffsets::kYes, WordRegex::kYes); }

Json Gpt2Digits() { return Sequence(Json::array({Digits()}), WordRegex::kYes); }

template <const char* const& pattern>
Json Words() {
  return Sequence(Json::array({Split(pattern)}), WordRegex::kNo);
}

Json DeepSeek3() {
  return Sequence(
      Json::array({Split(R"(\p{N}{1,3})"), Split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
                   Split(kDeepSeek3Words)}),
      WordRegex::kNo);
}

Json DeepSeekCoder() {
  return Sequence(Json::array({Split("[\r\n]"), Split(R"(\s?\p{L}+)"), Split(R"(\s?\p{P}+)"),
                               Split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), Digits()}),
                  WordRegex::kNo);
}

constexpr bool kNfc = true;
constexpr bool kIgnoreMerges = true;
constexpr bool kAddBos = true;
constexpr bool kNo = false;

constexpr WordSplitting kSplittings[] = {
    {"llama-bpe", Words<kLlama3Words>, kNo, kIgnoreMerges, kAddBos},
    {"llama3", Words<kLlama3Words>, kNo, kIgnoreMerges, kAddBos},
    {"llama-v3", Words<kLlama3Words>, kNo, kIgnoreMerges, kAddBos},
    {"falcon3", Words<kLlama3Words>, kNo, kIgnoreMerges, kAddBos},
    {"midm-2.0", Words<kLlama3Words>, kNo, kIgnoreMerges, kAddBos},
    {"glm4", Words<kLlama3Words>, kNo, kNo, kNo},
    {"chatglm-bpe", Words<kLlama3Words>, kNo, kNo, kNo},
    {"smaug-bpe", Words<kLlama3Words>, kNo, kNo, kNo},
    {"dbrx", Words<kLlama3Words>, kNo, kNo, kNo},
    {"smollm", Gpt2Digits, kNo, kNo, kNo},
    {"starcoder", Gpt2Digits, kNo, kNo, kNo},
    {"refact", Gpt2Digits, kNo, kNo, kNo},
    {"codeshell", Gpt2Digits, kNo, kNo, kNo},
    {"minerva-7b", Gpt2Digits, kNo, kNo, kNo},
    {"command-r", Gpt2Digits, kNfc, kNo, kNo},
    {"gpt-2", Gpt2, kNo, kNo, kNo},
    {"mellum", Gpt2, kNo, kNo, kNo},
    {"olmo", Gpt2, kNo, kNo, kNo},
    {"trillion", Gpt2, kNo, kNo, kNo},
    {"qwen2", Words<kQwen2Words>, kNfc, kNo, kNo},
    {"deepseek-r1-qwen", Words<kQwen2Words>, kNfc, kNo, kNo},
    {"megrez", Words<kQwen2Words>, kNo, kNo, kNo},
    {"seed-coder", Words<kSeedCoderWords>, kNo, kNo, kNo},
    {"tekken", Words<kTekkenWords>, kNo, kIgnoreMerges, kAddBos},
    {"gpt-4o", Words<kGpt4oWords>, kNo, kNo, kNo},
    {"deepseek-v3", DeepSeek3, kNo, kNo, kNo},
    {"hunyuan-dense", DeepSeek3, kNo, kNo, kNo},
    {"deepseek-coder", DeepSeekCoder, kNo, kNo, kNo},
};

}  // namespace

Json ByteLevelJson(PrefixSpace prefix_space, TrimOffsets trim_offsets, WordRegex word_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", prefix_space == PrefixSpace::kYes},
          {"trim_offsets", trim_offsets == TrimOffsets::kYes},
          {"use_regex", word_regex == WordRegex::kYes}};
}

const WordSplitting& FindWordSplitting(std::string_view name, std::string_view what) {
  const auto* found =
      std::find_if(std::begin(kSplittings), std::end(kSplittings),
                   [&](const WordSplitting& splitting) { return splitting.name == name; });
  if (found == std::end(kSplittings)) {
    Fail(ErrorCode::kUnsupported, "{}: pre-tokenizer {} is not known; these are: {}", what,
         Quoted(name), WordSplittingNames());
  }
  return *found;
}

std::string WordSplittingNames() {
  std::string names;
  for (const WordSplitting& splitting : kSplittings) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", splitting.name);
  }
  return names;
}

}  // namespace narrow
