#include "stream/embedding.h"

#include <map>
#include <span>
#include <utility>

#include "base/interrupt.h"
#include "base/ranks.h"
#include "model/stored_layer.h"
#include "stream/head_packer.h"
#include "stream/token_positions.h"

namespace narrow {
namespace {

// The places that are in a part of this rank.
std::vector<int64_t> OwnPlaces(std::span<const int64_t> places, std::span<const Part> parts) {
  std::vector<int64_t> own;
  for (const int64_t place : places) {
    const auto after = std::ranges::upper_bound(
        parts, place, {}, [](const Part& part) { return part.batch.first_row; });
    for (auto part = after; part != parts.begin();) {
      --part;
      if (place >= part->batch.first_row + part->batch.rows) break;
      if (part->rank != JobRanks().rank()) continue;
      own.push_back(place);
      break;
    }
  }
  return own;
}

// Rows of the embedding from `first`, to where their tokens are in a text.
void EmbedRows(const TokenPositions& positions, Dtype dtype, int64_t first,
               std::span<const std::byte> rows, float scale, const EmbeddingRequest::Text& text) {
  const int64_t row_bytes = text.hidden->width() * ElementBytes(dtype);
  const std::vector<int64_t> places =
      OwnPlaces(positions.Of(first, std::ssize(rows) / row_bytes), text.parts);
  text.hidden->Fill(places, [&](std::size_t i, std::span<float> hidden) {
    const int64_t token = text.tokens->tokens[static_cast<std::size_t>(places[i])];
    ConvertRow(dtype,
               rows.subspan(static_cast<std::size_t>((token - first) * row_bytes),
                            static_cast<std::size_t>(row_bytes)),
               hidden);
    if (scale == 1.0f) return;
    for (float& value : hidden) value *= scale;
  });
}

}  // namespace

std::optional<PackedWeights> Embed(const EmbeddingRequest& request) {
  const DecoderConfig& config = *request.config;
  const ModelSpec model = request.family->model(config);
  const std::string& name = model.embedding;
  const Dtype dtype = request.checkpoint->Get(name).entry.dtype;
  std::map<const TokenStream*, TokenPositions> positions;
  for (const auto& text : request.texts) positions.try_emplace(text.tokens, text.tokens->tokens);
  std::optional<HeadPacker> head;
  if (model.lm_head == name && request.head == TiedHead::kKept) {
    head.emplace(config, request.compute, dtype, config.vocabulary);
  }
  const auto take = [&](int64_t first, std::span<const std::byte> rows) {
    ThrowIfStopRequested(request.how_to_continue);
    CheckFinite(dtype, rows, name);
    for (const auto& text : request.texts) {
      EmbedRows(positions.at(text.tokens), dtype, first, rows, model.embedding_scale, text);
    }
    if (head) head->Add(rows);
  };
  if (request.copy_to != nullptr) {
    request.copy_to->Copy(name, take);
  } else {
    ReadInChunks(*request.checkpoint, name, {0, config.vocabulary}, take);
  }
  for (const auto& text : request.texts) text.hidden->Advance();
  if (!head) return std::nullopt;
  return std::move(*head).Take();
}

}  // namespace narrow
