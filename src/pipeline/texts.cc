#include "pipeline/texts.h"

#include <algorithm>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"

namespace narrow {
namespace {

void CheckIds(std::span<const int32_t> ids, int64_t vocabulary) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocabulary) {
      Fail(ErrorCode::kCorruptInput,
           "the tokenizer gives id {}, but the model's vocabulary has {} entries; tokenizer.json "
           "and "
           "config.json are not of the same model",
           id, vocabulary);
    }
  }
}

TokenizedText Describe(const Dataset& dataset) {
  TokenizedText text;
  text.dataset = dataset.name;
  text.origin = dataset.origin;
  text.notice = dataset.notice;
  return text;
}

}  // namespace

TokenizedText TokenizeCalibration(const CalibrationOptions& options, const Tokenizer& tokenizer,
                                  int64_t vocabulary) {
  const Dataset dataset = LoadDataset(options.dataset, DatasetUse::kCalibration, options.samples);
  TokenizedText text = Describe(dataset);
  std::vector<std::vector<int32_t>> documents(dataset.documents.size());
  ParallelFor(static_cast<int64_t>(documents.size()), [&](int64_t i) {
    const auto d = static_cast<std::size_t>(i);
    documents[d] = tokenizer.Encode(dataset.documents[d], SpecialTokens::kAdd);
  });
  for (const std::vector<int32_t>& ids : documents) {
    CheckIds(ids, vocabulary);
    const auto kept = std::min(ids.size(), static_cast<std::size_t>(options.max_tokens));
    if (kept > 0) text.stream.Append(std::span(ids).first(kept));
  }
  if (text.stream.tokens.empty()) {
    Fail(ErrorCode::kCorruptInput, "the calibration text {} has no tokens", text.origin);
  }
  text.text_tokens = text.stream.size();
  return text;
}

TokenizedText TokenizeEvaluation(const EvaluationOptions& options, const Tokenizer& tokenizer,
                                 int64_t vocabulary) {
  const Dataset dataset = LoadDataset(options.dataset, DatasetUse::kEvaluation, 0);
  TokenizedText text = Describe(dataset);
  const std::vector<int32_t> ids = tokenizer.Encode(JoinDocuments(dataset), SpecialTokens::kAdd);
  CheckIds(ids, vocabulary);
  text.text_tokens = static_cast<int64_t>(ids.size());
  for (const int64_t window :
       ChooseWindows(text.text_tokens, options.window_tokens, options.windows, options.choice)) {
    text.stream.Append(
        std::span(ids).subspan(static_cast<std::size_t>(window * options.window_tokens),
                               static_cast<std::size_t>(options.window_tokens)));
  }
  return text;
}

}  // namespace narrow
