#include "stream/pass_model.h"

#include <algorithm>

#include "stream/embedding.h"

namespace narrow {

void EmbedTexts(const PassRequest& request, std::vector<PassModel>& models,
                std::list<PassStream>& streams, const char* how_to_continue) {
  // Losses take slices of all heads or of none.
  const bool tied = std::ranges::all_of(models, &PassModel::ties_head);
  for (PassModel& model : models) {
    EmbeddingRequest embedding;
    embedding.checkpoint = model.source.checkpoint;
    embedding.family = model.source.family;
    embedding.config = &model.source.config;
    embedding.compute = request.compute;
    embedding.copy_to = request.output;
    for (PassStream& stream : streams) {
      if (&ModelOf(models, stream) != &model) continue;
      embedding.texts.push_back({stream.tokens, &stream.hidden, stream.parts});
    }
    if (request.evaluation != nullptr && tied) embedding.head = request.plan.tied_head;
    embedding.how_to_continue = how_to_continue;
    model.tied_head = Embed(embedding);
  }
}

}  // namespace narrow
