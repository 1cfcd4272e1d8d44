// What a run did and measured, as its report says it.
#pragma once

#include "export/report.h"
#include "pipeline/quantize.h"
#include "pipeline/streaming_pass.h"
#include "pipeline/texts.h"

namespace narrow {

void FillStrategy(const QuantizeRequest& request, const LayerQuantizationOptions& quantization,
                  const QuantizedCheckpointDescription& description, RunReport& report);
void FillCalibration(const TokenizedText& text, RunReport& report);
// `text` is what the pass evaluated; the tokenizer turns the worst tokens back into text.
// REQUIRES: request.evaluation; result.deployed.
void FillEvaluation(const QuantizeRequest& request, const TokenizedText& text,
                    const Tokenizer& tokenizer, const PassResult& result, RunReport& report);
// Every tensor's range and scale, and each layer's sums, time and memory.
void FillTensors(const PassResult& result, RunReport& report);

// The text of a token and of about twelve tokens before it in its window. Bytes that are no UTF-8
// by themselves (a token may be part of a character) appear as "<0xE2>"; long text is cut.
RunReport::WorstToken DescribeHurtToken(const HurtToken& hurt, const TokenStream& stream,
                                        const Tokenizer& tokenizer);

}  // namespace narrow
