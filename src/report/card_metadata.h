// The front matter of the model card, which the Hugging Face hub reads.
#pragma once

#include <string>

#include "report/report.h"

namespace narrow {

// From "---" to "---", in YAML: base_model, license, library_name, pipeline_tag, tags, and, where
// there was an evaluation, its figures as model-index. What the source does not say is left out.
// `output_name` is the model's name in the index. REQUIRES: report.strategy.
// Source: hub-docs, modelcard.md; huggingface_hub 2.4, repocard_data.py.
std::string RenderCardMetadata(const RunReport& report, const SourceFacts& source,
                               const std::string& output_name);

}  // namespace narrow
