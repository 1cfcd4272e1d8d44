// From named texts to token streams.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "evaluation/windows.h"
#include "text/dataset.h"
#include "text/model_tokenizer.h"
#include "text/token_stream.h"

namespace narrow {

struct CalibrationOptions {
  DatasetRequest dataset;
  int64_t samples = 128;
  int64_t max_tokens = 512;  // per sample; longer documents are cut, those that are ids are not
  SpecialTokens special_tokens = SpecialTokens::kAdd;
};

struct EvaluationOptions {
  DatasetRequest dataset;
  int64_t windows = 0;  // 0: all
  int64_t window_tokens = 2048;
  WindowChoice choice = WindowChoice::kSpread;
  WindowStart start = WindowStart::kFamily;  // of windows of text; those of ids stay as they are
  SpecialTokens special_tokens = SpecialTokens::kAdd;
};

// A stream and where it came from.
struct TokenizedText {
  std::string dataset;
  std::string origin;
  std::string source{};  // repository and commit, where it came from the hub
  std::optional<std::string> notice;
  std::vector<std::string> warnings{};  // sentences: what the user may not expect of this text
  TokenStream stream;
  bool window_bos = false;      // every window was made to begin with the begin of text
  int64_t text_tokens = 0;      // of the whole evaluation text, before windows were chosen
  int64_t asked = 0;            // samples or windows; 0: all there are
  int64_t empty_documents = 0;  // that were passed over
};

// The first `samples` documents that are not empty: text with special tokens as asked for, cut to
// max_tokens; token ids as they are. Throws: as LoadDataset, ModelTokenizer::Get and
// Tokenizer::Encode; kCorruptInput when nothing is left, or an id is outside the model's vocabulary
// (with its line where the document is ids).
TokenizedText TokenizeCalibration(const CalibrationOptions& options, ModelTokenizer& tokenizer);

// The evaluation text as one string, tokenized once and cut into windows; of documents that are
// token ids each is a window as it is. Throws: as above; kCorruptInput with the line for a window
// of ids that has less than two; kNotFound where windows are to begin with a begin of text that
// neither tokenizer nor config names.
TokenizedText TokenizeEvaluation(const EvaluationOptions& options, ModelTokenizer& tokenizer);

// What there is to say of a text's windows, but for the model.
EvaluatedWindows DescribeWindows(const TokenizedText& text);

// All that is to be said of a text: its notice and its warnings.
std::vector<std::string> RemarksOf(const TokenizedText& text);

// A sentence where a text of the stream is longer than the positions the config says the model is
// for, nothing otherwise. `texts` names them: "windows".
std::optional<std::string> LengthRemark(const TokenStream& stream, std::string_view texts,
                                        int64_t max_positions);

}  // namespace narrow
