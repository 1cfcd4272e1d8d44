// Which linears of a model a job with a forward pass quantizes by which scheme.
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "jobs/module_choice.h"
#include "jobs/quantize.h"
#include "model/model_source.h"
#include "quantization/layer_quantizer.h"

namespace narrow {

// Whether a job with a forward pass is by schemes that are data: all but the default one in a
// format that has it with scales in F32 (ExportFormats). `format`: as it was asked for; empty: it
// was not. Throws: as FindExportFormat, for a name that no format has.
bool IsByData(std::string_view scheme, bool recipe, std::string_view format);

// What a job rounds by that is not told: compensated, where that pays for one of the schemes.
RoundingAlgorithm DefaultRounding(const Recipe& recipe);

// By names and shapes, as without calibration, experts one by one wherever they lie together;
// `kept` stay, too. REQUIRES: request.schemes.
ModuleChoices ChooseForPass(const QuantizeRequest& request, const ModelSource& model,
                            const std::set<std::string>& kept = {});

// Sets schemes and excluded modules. Throws: kUnsupported for linears that run as one product and
// are not in one scheme, and for scales of the KV cache in a format that has no place for them.
void SetSchemes(const QuantizeRequest& request, const ModelSource& model,
                LayerQuantizationOptions& options);

// "quantization_config" of the output.
Json SchemeConfig(const QuantizeRequest& request, const ModelSource& model,
                  const std::set<std::string>& kept);

}  // namespace narrow
