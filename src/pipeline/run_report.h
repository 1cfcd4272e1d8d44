// What a run did and measured, as its report says it.
#pragma once

#include "export/report.h"
#include "pipeline/quantize.h"
#include "pipeline/streaming_pass.h"
#include "pipeline/texts.h"

namespace narrow {

void FillStrategy(const QuantizeRequest& request, const QuantizedCheckpointDescription& description,
                  RunReport& report);
void FillCalibration(const TokenizedText& text, RunReport& report);
// REQUIRES: request.evaluation; result.deployed.
void FillEvaluation(const QuantizeRequest& request, const TokenizedText& text,
                    const PassResult& result, RunReport& report);
// Every tensor's range and scale.
void FillTensors(const PassResult& result, RunReport& report);

}  // namespace narrow
