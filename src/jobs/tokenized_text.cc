#include "jobs/tokenized_text.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"

namespace narrow {
namespace {

using Ids = std::vector<int32_t>;

constexpr std::size_t kMostSpecialTokens = 64;  // that are put around a text

// `where` names a file and line, or the tokenizer.
void CheckIds(std::span<const int32_t> ids, int64_t vocabulary, const std::string& where,
              const char* advice) {
  for (const int32_t id : ids) {
    if (id >= 0 && id < vocabulary) continue;
    Fail(ErrorCode::kCorruptInput,
         "{} gives token id {}, but the model's vocabulary has {} entries; {}", where, id,
         vocabulary, advice);
  }
}

void CheckEncoded(std::span<const int32_t> ids, int64_t vocabulary) {
  CheckIds(ids, vocabulary, "the tokenizer",
           "tokenizer.json and config.json are not of the same model");
}

void CheckLine(const TokenLine& line, const Dataset& dataset, int64_t vocabulary) {
  CheckIds(line.ids, vocabulary, fmt::format("{}, line {}", dataset.origin, line.line),
           "the ids are of another tokenizer than the model's");
}

bool StartsTwice(std::span<const int32_t> ids, std::span<const int32_t> start) {
  const std::size_t n = start.size();
  return n > 0 && ids.size() >= 2 * n && std::ranges::equal(ids.first(n), start) &&
         std::ranges::equal(ids.subspan(n, n), start);
}

// Which texts begin with the special tokens twice: those that hold them already, as chat templates
// write them. No served prompt looks like that.
void WarnOfDoubleStarts(const std::vector<Ids>& documents, const Dataset& dataset,
                        ModelTokenizer& tokenizer, const char* what, TokenizedText& text) {
  Ids start;
  std::string name;
  const bool encoded = dataset.tokens.empty();
  if (encoded) {
    start = tokenizer.Get().LeadingSpecialTokens();
    for (const int32_t id : start) name += tokenizer.Get().TokenText(id);
  } else if (const auto begin = tokenizer.begin_of_text(); begin && *begin < INT32_MAX) {
    start = {static_cast<int32_t>(*begin)};
    name = fmt::format("token {} (the begin of text)", *begin);
  }
  const auto count = std::ranges::count_if(
      documents, [&](const Ids& document) { return StartsTwice(document, start); });
  if (count == 0) return;
  text.warnings.push_back(fmt::format(
      "{} of {} {} of {} start with {} twice: {}", count, documents.size(), what, dataset.name,
      encoded ? Quoted(name) : name,
      encoded ? "the text holds it already, as chat templates write it; --no_special_tokens adds "
                "nothing to the texts"
              : "leave one out of each"));
}

TokenizedText Describe(const Dataset& dataset) {
  TokenizedText text;
  text.dataset = dataset.name;
  text.origin = dataset.origin;
  text.source = dataset.source;
  text.notice = dataset.notice;
  text.empty_documents = dataset.empty_documents;
  return text;
}

void WarnOfFewer(int64_t found, const char* what, const char* flag, TokenizedText& text) {
  if (text.asked == 0 || found >= text.asked) return;
  text.warnings.push_back(fmt::format("{} has {} {}, fewer than the {} asked for ({})",
                                      text.dataset, found, what, text.asked, flag));
}

void WarnOfEmpty(TokenizedText& text) {
  if (text.empty_documents == 0) return;
  text.warnings.push_back(text.empty_documents == 1
                              ? fmt::format("1 empty document of {} was passed over", text.dataset)
                              : fmt::format("{} empty documents of {} were passed over",
                                            text.empty_documents, text.dataset));
}

// Documents that the tokenizer makes nothing of are dropped, and counted as empty.
std::vector<Ids> EncodeSamples(const Dataset& dataset, const CalibrationOptions& options,
                               ModelTokenizer& source, TokenizedText& text) {
  const Tokenizer& tokenizer = source.Get();
  std::vector<Ids> samples(dataset.documents.size());
  ParallelFor(std::ssize(samples), [&](int64_t i) {
    const auto d = static_cast<std::size_t>(i);
    const std::string& document = dataset.documents[d];
    samples[d] = tokenizer.Encode(document, options.special_tokens);
    const bool may_be_empty = samples[d].size() <= kMostSpecialTokens;
    if (may_be_empty && tokenizer.Encode(document, SpecialTokens::kNone).empty()) {
      samples[d].clear();
    }
  });
  text.empty_documents +=
      static_cast<int64_t>(std::erase_if(samples, [](const Ids& ids) { return ids.empty(); }));
  for (Ids& ids : samples) {
    CheckEncoded(ids, source.vocabulary());
    ids.resize(std::min(ids.size(), static_cast<std::size_t>(options.max_tokens)));
  }
  return samples;
}

// Documents that are ids, checked.
std::vector<Ids> TakeSamples(Dataset& dataset, int64_t vocabulary) {
  std::vector<Ids> samples;
  for (TokenLine& line : dataset.tokens) {
    CheckLine(line, dataset, vocabulary);
    samples.push_back(std::move(line.ids));
  }
  return samples;
}

// What every window is to begin with; nothing: with the text.
Ids WindowStartIds(const EvaluationOptions& options, ModelTokenizer& tokenizer) {
  const bool of_family = options.start == WindowStart::kFamily &&
                         options.special_tokens == SpecialTokens::kAdd &&
                         tokenizer.begins_windows();
  if (!of_family && options.start != WindowStart::kBeginOfText) return {};
  Ids start = tokenizer.Get().LeadingSpecialTokens();
  if (start.empty() && tokenizer.begin_of_text()) {
    start = {static_cast<int32_t>(*tokenizer.begin_of_text())};
  }
  if (start.empty()) {
    Fail(ErrorCode::kNotFound,
         "neither tokenizer.json nor config.json names a begin-of-text token for the windows; "
         "--window_bos never takes them as they are");
  }
  CheckEncoded(start, tokenizer.vocabulary());
  return start;
}

void CutWindows(const EvaluationOptions& options, const Ids& ids, const Ids& start,
                TokenizedText& text) {
  const auto length = static_cast<std::size_t>(options.window_tokens);
  text.text_tokens = std::ssize(ids);
  text.window_bos = !start.empty();
  for (const int64_t index :
       ChooseWindows(text.text_tokens, options.window_tokens, options.windows, options.choice)) {
    const auto window = std::span(ids).subspan(static_cast<std::size_t>(index) * length, length);
    if (std::ranges::equal(window.first(std::min(start.size(), length)), start)) {
      text.stream.Append(window);
      continue;
    }
    Ids begun = start;
    begun.insert(begun.end(), window.begin(), window.end());
    text.stream.Append(std::span(begun).first(length));
  }
}

}  // namespace

TokenizedText TokenizeCalibration(const CalibrationOptions& options, ModelTokenizer& tokenizer) {
  Dataset dataset = LoadDataset(options.dataset, DatasetUse::kCalibration, options.samples);
  TokenizedText text = Describe(dataset);
  text.asked = options.samples;
  const std::vector<Ids> samples = dataset.tokens.empty()
                                       ? EncodeSamples(dataset, options, tokenizer, text)
                                       : TakeSamples(dataset, tokenizer.vocabulary());
  for (const Ids& ids : samples) text.stream.Append(ids);
  if (text.stream.tokens.empty()) {
    Fail(ErrorCode::kCorruptInput, "the calibration text {} has no tokens", text.origin);
  }
  text.text_tokens = text.stream.size();
  WarnOfEmpty(text);
  WarnOfFewer(std::ssize(samples), "documents", "--num_calib_data", text);
  WarnOfDoubleStarts(samples, dataset, tokenizer, "samples", text);
  return text;
}

TokenizedText TokenizeEvaluation(const EvaluationOptions& options, ModelTokenizer& tokenizer) {
  Dataset dataset = LoadDataset(options.dataset, DatasetUse::kEvaluation, 0);
  TokenizedText text = Describe(dataset);
  text.asked = options.windows;
  if (dataset.tokens.empty()) {
    const std::vector<Ids> whole = {
        tokenizer.Get().Encode(JoinDocuments(dataset), options.special_tokens)};
    CheckEncoded(whole.front(), tokenizer.vocabulary());
    CutWindows(options, whole.front(), WindowStartIds(options, tokenizer), text);
    WarnOfDoubleStarts(whole, dataset, tokenizer, "texts", text);
  } else {
    for (const TokenLine& line : dataset.tokens) {
      if (line.ids.size() >= 2) continue;
      Fail(ErrorCode::kCorruptInput, "{}, line {}: a window needs at least 2 tokens, found {}",
           dataset.origin, line.line, line.ids.size());
    }
    const std::vector<Ids> windows = TakeSamples(dataset, tokenizer.vocabulary());
    for (const Ids& ids : windows) text.text_tokens += std::ssize(ids);
    for (const int64_t window : ChooseOf(std::ssize(windows), options.windows, options.choice)) {
      text.stream.Append(windows[static_cast<std::size_t>(window)]);
    }
    WarnOfDoubleStarts(windows, dataset, tokenizer, "windows", text);
  }
  WarnOfFewer(std::ssize(text.stream.sequences), "windows", "--eval_windows", text);
  return text;
}

EvaluatedWindows DescribeWindows(const TokenizedText& text) {
  return {.windows = std::ssize(text.stream.sequences),
          .window_bos = text.window_bos,
          .window_tokens = text.stream.longest(),
          .shortest_window_tokens = text.stream.shortest(),
          .tokens = text.stream.size()};
}

std::vector<std::string> RemarksOf(const TokenizedText& text) {
  std::vector<std::string> remarks = text.warnings;
  if (text.notice) remarks.insert(remarks.begin(), *text.notice);
  return remarks;
}

std::optional<std::string> LengthRemark(const TokenStream& stream, std::string_view texts,
                                        int64_t max_positions) {
  if (stream.longest() <= max_positions) return std::nullopt;
  return fmt::format(
      "{} of {} tokens are longer than the max_position_embeddings of config.json, {}: the model "
      "may not have been trained for such positions",
      texts, stream.longest(), max_positions);
}

}  // namespace narrow
