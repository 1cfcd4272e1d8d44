// A checkpoint whose layers go through a pass, with what the pass keeps of it. Of two, the second
// is judged beside the first.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <utility>
#include <vector>

#include "device/packed_weights.h"
#include "model/rope.h"
#include "stream/pass_stream.h"
#include "stream/streaming_pass.h"

namespace narrow {

struct PassModel {
  // For texts of `longest` tokens at most. Throws: as RopeTables.
  PassModel(PassSource checkpoint, int64_t longest)
      : source(std::move(checkpoint)),
        layers(LayersOf(*source.family, source.config)),
        rope(layers, longest) {}

  bool ties_head() const {
    const ModelSpec model = source.family->model(source.config);
    return model.lm_head == model.embedding;
  }

  PassSource source;
  std::vector<LayerSpec> layers;
  RopeTables rope;
  std::optional<PackedWeights> tied_head;  // from the embedding to the losses
};

// Whose layers a stream goes through.
inline const PassModel& ModelOf(const std::vector<PassModel>& models, const PassStream& stream) {
  return stream.network->view ? models.back() : models.front();
}

// The first states of all streams, each from the embedding of its model; heads that are tied to
// them are kept where the plan says so. Throws: as Embed.
void EmbedTexts(const PassRequest& request, std::vector<PassModel>& models,
                std::list<PassStream>& streams, const char* how_to_continue);

}  // namespace narrow
