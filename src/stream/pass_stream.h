// One text on its way through one version of the model.
#pragma once

#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/routing.h"
#include "stream/division.h"
#include "stream/hidden_store.h"
#include "stream/layer_progress.h"
#include "stream/networks.h"
#include "text/token_stream.h"

namespace narrow {

struct PassStream {
  std::string name;  // of its hidden states
  Use use = Use::kEvaluation;
  const Network* network = nullptr;
  const TokenStream* tokens = nullptr;
  std::vector<Part> parts;     // of all ranks
  std::vector<Batch> batches;  // of this one
  HiddenStore hidden;
  // Of models with experts: what those of a layer read, and the routes of every token.
  std::optional<HiddenStore> inputs;
  std::vector<int32_t> experts;  // [tokens, per token]
  std::vector<float> weights;    // likewise

  bool evaluates() const { return use == Use::kEvaluation || use == Use::kAttribution; }
  LayerWork work() const {
    if (use == Use::kCalibration) return LayerWork::kCalibrating;
    if (use == Use::kProbe) return LayerWork::kProbing;
    return network->view ? LayerWork::kQuantized : LayerWork::kOriginal;
  }
  // The rows of a batch with `inputs` of them.
  RoutedRows Routed(const Batch& batch, MatrixView<float> batch_inputs, int64_t per_token) {
    const int64_t first = batch.first_row * per_token;
    return {batch_inputs, per_token, experts.data() + first, weights.data() + first};
  }
};

// A stream of a pass; `parts`: of all ranks, all tokens of the text.
PassStream MakePassStream(const PassRequest& request, Use use, const Network& network,
                          const TokenStream& tokens, const std::string& name,
                          std::vector<Part> parts);

// The only stream of that use; null when there is none.
PassStream* FindStream(std::list<PassStream>& streams, Use use);
std::vector<HiddenStore*> HiddenOf(std::list<PassStream>& streams, Use use);

// What a pass does with the layers, for the display.
std::string_view NameOfLayers(const PassRequest& request);

// Tokens of the longest sequence of any text of a pass.
int64_t LongestSequence(const PassRequest& request);

}  // namespace narrow
