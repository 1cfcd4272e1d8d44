// Multimodal models: a decoder that this program knows, and what stands beside it (vision tower,
// projector), which is copied as it is.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint_reader.h"
#include "io/json.h"
#include "model/config.h"

namespace narrow {

// The config of the language part, as that of a model of its own would be: "text_config", or, in
// the older layout of Qwen's, the members beside those of the vision tower. Nothing where the one
// architecture of `config` is no multimodal model that this build knows. Rotary embeddings in
// sections (mrope) become default ones: all sections of a text are alike. Throws: kCorruptInput.
// Source: transformers 5.19, configuration classes of the models; vLLM 0.32.
std::optional<Json> LanguagePart(const Json& config, std::string_view what);

// What a checkpoint calls the language part's tensors, which transformers has changed: by where the
// embedding is. `has` asks for a tensor. Throws: kCorruptInput when it is nowhere.
TensorNames LanguageNames(const std::function<bool(const std::string&)>& has,
                          std::string_view what);

// All tensors of the layers of next-token prediction, which come after the decoder's.
std::vector<OtherTensor> TensorsAfterLayers(const CheckpointReader& checkpoint,
                                            const DecoderConfig& config);

// All tensors that are not the language part's, in the checkpoint's order.
std::vector<OtherTensor> OtherTensors(const CheckpointReader& checkpoint, const TensorNames& names);

// Those of a decoder alone that predict further tokens (IsPredictor).
std::vector<OtherTensor> PredictorTensors(const CheckpointReader& checkpoint,
                                          const DecoderConfig& config);

}  // namespace narrow
