// What a run did and measured, as its report says it.
#pragma once

#include <optional>

#include "jobs/quantize.h"
#include "jobs/tokenized_text.h"
#include "report/report.h"
#include "stream/streaming_pass.h"

namespace narrow {

void FillStrategy(const QuantizeRequest& request, const LayerQuantizationOptions& quantization,
                  const QuantizedCheckpointDescription& description, RunReport& report);
void FillCalibration(const TokenizedText& text, RunReport& report);
// `text` is what the pass evaluated; the tokenizer turns the worst tokens back into text: without
// one (null) they are shown as ids. `attention`: over an FP8 cache; nothing without one. REQUIRES:
// result.deployed.
void FillEvaluation(std::optional<AttentionFigures> attention, const TokenizedText& text,
                    const Tokenizer* tokenizer, const PassResult& result, RunReport& report);
// What became of each layer, and its time and memory as far as this run measured them.
void FillLayers(const PassResult& result, RunReport& report);
// `kept`: nothing where the KL was low enough without. `checkpoint_bytes`: of all tensors.
void FillKept(const KeepRequest& request, const std::optional<KeptGroups>& kept,
              int64_t checkpoint_bytes, RunReport& report);

// The text of a token and of about twelve tokens before it in its window. Bytes that are no UTF-8
// by themselves (a token may be part of a character) appear as "<0xE2>"; long text is cut. Without
// a tokenizer (null) they are ids, "123" after "5 17 ".
RunReport::WorstToken DescribeHurtToken(const HurtToken& hurt, const TokenStream& stream,
                                        const Tokenizer* tokenizer);

}  // namespace narrow
