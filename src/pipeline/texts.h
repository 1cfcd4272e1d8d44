// From named texts to token streams.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "evaluation/windows.h"
#include "pipeline/token_stream.h"
#include "text/dataset.h"
#include "text/tokenizer.h"

namespace narrow {

struct CalibrationOptions {
  DatasetRequest dataset;
  int64_t samples = 128;
  int64_t max_tokens = 512;  // per sample; longer documents are cut
};

struct EvaluationOptions {
  DatasetRequest dataset;
  int64_t windows = 0;  // 0: all
  int64_t window_tokens = 2048;
  WindowChoice choice = WindowChoice::kSpread;
};

// A stream and where it came from.
struct TokenizedText {
  std::string dataset;
  std::string origin;
  std::optional<std::string> notice;
  TokenStream stream;
  int64_t text_tokens = 0;  // of the whole evaluation text, before windows were chosen
};

// The first `samples` documents, special tokens as the tokenizer adds them, cut to max_tokens;
// empty documents give no sequence. Throws: as LoadDataset and Tokenizer::Encode; kCorruptInput
// when nothing is left, or an id is outside the model's vocabulary.
TokenizedText TokenizeCalibration(const CalibrationOptions& options, const Tokenizer& tokenizer,
                                  int64_t vocabulary);

// The evaluation text as one string, tokenized once and cut into windows.
TokenizedText TokenizeEvaluation(const EvaluationOptions& options, const Tokenizer& tokenizer,
                                 int64_t vocabulary);

}  // namespace narrow
