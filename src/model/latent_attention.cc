// Latent attention: q, k and v out of latents, which are what the cache holds.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "model/attention_step.h"

namespace narrow {
namespace {

// Memory of a tile, of the thread.
struct LatentBuffers {
  OperandBuffer projected, query, key_value, expanded, cached, copied;
};
LatentBuffers& Buffers() {
  thread_local LatentBuffers buffers;
  return buffers;
}

class LatentAttention final : public AttentionStep {
 public:
  explicit LatentAttention(const AttentionContext& context)
      : context_(context),
        layer_(context.layer),
        heads_(layer_.spec.attention.heads),
        form_(*layer_.spec.attention.As<LatentHeads>()),
        positions_(PositionsOf(context.sequences, context.rows)),
        type_(TypeOf(layer_)),
        projected_(context.workspace.projected.Reserve(
            type_, context.rows, 2 * heads_.query_width() + heads_.value_width())),
        attended_(
            context.workspace.attended.Reserve(type_, context.rows, heads_.attended_width())) {
    if (form_.indexer) ReserveIndex();
  }

  void Project(int64_t first, Operands input) override {
    if (form_.indexer) ProjectIndexKeys(first, input);
    const int64_t rows = input.rows, latent = form_.key_value_latent;
    const FusedLinear& linear =
        PrepareInput(layer_, LinearGroup::kQueryKeyValue, first, input, context_.observer);
    const Operands latents =
        Buffers().projected.Reserve(type_, rows, form_.query_latent + latent + form_.turned);
    linear.Multiply(input, latents);
    ProjectQueries(first, latents.ColumnBlock(0, form_.query_latent));
    // [latent, turned]: what the cache holds of a token.
    const Operands cached = Buffers().cached.Reserve(type_, rows, latent + form_.turned);
    Copy(latents.ColumnBlock(form_.query_latent, latent + form_.turned), cached);
    const Operands turned = cached.ColumnBlock(latent, form_.turned);
    for (int64_t row = 0; row < rows; ++row) Rotate(first + row, turned.RowBlock(row, 1));
    const Operands normed = Buffers().key_value.Reserve(type_, rows, latent);
    Copy(cached.ColumnBlock(0, latent), normed);
    layer_.NormAt(NormPlace::kKeyValueLatent)->ApplyToSegments(normed);
    Copy(normed, cached.ColumnBlock(0, latent));
    if (context_.observer != nullptr) context_.observer->OnKeys(first, cached);
    if (layer_.cache) {
      RoundToFloat8Grid(cached, layer_.cache->key_scale);
      for (int64_t row = 0; row < rows; ++row) {
        Scale(cached.RowBlock(row, 1), layer_.cache->key_scale);
      }
      Copy(cached.ColumnBlock(0, latent), normed);
    }
    Expand(first, normed, turned);
  }

  void Attend() override {
    AttentionScores scores = layer_.spec.attention.scores;
    if (form_.indexer) scores.selected = SelectedKeys();
    CausalAttention(heads_, context_.sequences, Queries(), Keys(), Values(), scores, 1.0f,
                    attended_);
  }

  Operands Attended(int64_t first, int64_t rows) override {
    return attended_.RowBlock(first, rows);
  }

 private:
  Operands Queries() const { return projected_.ColumnBlock(0, heads_.query_width()); }
  Operands Keys() const {
    return projected_.ColumnBlock(heads_.query_width(), heads_.query_width());
  }
  Operands Values() const {
    return projected_.ColumnBlock(2 * heads_.query_width(), heads_.value_width());
  }

  void Rotate(int64_t row, Operands turned) const {
    const int64_t position = positions_[static_cast<std::size_t>(row)];
    RotateHead(turned, layer_.spec.attention.rotary->pairs, context_.rope->Cosine(position),
               context_.rope->Sine(position));
  }

  void ProjectQueries(int64_t first, ConstOperands latent) {
    const Operands normed = Buffers().query.Reserve(type_, latent.rows, latent.columns);
    Copy(latent, normed);
    layer_.NormAt(NormPlace::kQueryLatent)->ApplyToSegments(normed);
    if (form_.indexer) ProjectIndexQueries(first, normed);
    const Operands queries = Queries().RowBlock(first, latent.rows);
    PrepareInput(layer_, LinearGroup::kQueryFromLatent, first, normed, context_.observer)
        .Multiply(normed, queries);
    for (int64_t row = 0; row < queries.rows; ++row) {
      for (int64_t head = 0; head < heads_.query_heads; ++head) {
        const int64_t place = head * heads_.head_size + form_.plain;
        Rotate(first + row, queries.RowBlock(row, 1).ColumnBlock(place, form_.turned));
      }
    }
  }

  void ReserveIndex() {
    const KeyScores& keys = form_.indexer->keys;
    BatchWorkspace& workspace = context_.workspace;
    index_ = workspace.index.Reserve(type_, context_.rows, (keys.heads + 1) * keys.size);
    const auto reserve = [](auto& buffer, int64_t size) {
      if (buffer.size() < size) buffer = std::remove_reference_t<decltype(buffer)>(size);
    };
    reserve(workspace.index_weights, context_.rows * keys.heads);
    index_weights_ = {workspace.index_weights.data(), context_.rows, keys.heads};
    int64_t longest = 0;
    for (const Sequence& text : context_.sequences) longest = std::max(longest, text.count);
    if (longest <= keys.count) return;  // all are seen
    reserve(workspace.selected, context_.rows * longest);
    selected_ = {workspace.selected.data(), context_.rows, longest};
  }

  // Null where all keys are seen.
  const MatrixView<const uint8_t>* SelectedKeys() {
    if (selected_.rows == 0) return nullptr;
    const KeyScores& keys = form_.indexer->keys;
    const int64_t queries = keys.heads * keys.size;
    SelectKeys(keys, context_.sequences, index_.ColumnBlock(0, queries),
               index_.ColumnBlock(queries, keys.size), index_weights_, selected_);
    shown_ = selected_;
    return &shown_;
  }

  void TurnIndex(int64_t row, Operands head) const {
    const int64_t position = positions_[static_cast<std::size_t>(row)];
    RotateHead(head, form_.indexer->pairs, context_.rope->Cosine(position),
               context_.rope->Sine(position));
  }

  // Of the hidden states: the key of a token, and the weights of the heads for its query.
  void ProjectIndexKeys(int64_t first, ConstOperands input) {
    const KeyScores& keys = form_.indexer->keys;
    const Operands x = Buffers().copied.Reserve(type_, input.rows, input.columns);
    Copy(input, x);
    const Operands out = Buffers().projected.Reserve(type_, x.rows, keys.size + keys.heads);
    PrepareInput(layer_, LinearGroup::kIndexKeys, first, x, context_.observer).Multiply(x, out);
    const Operands key =
        index_.RowBlock(first, x.rows).ColumnBlock(keys.heads * keys.size, keys.size);
    Copy(out.ColumnBlock(0, keys.size), key);
    layer_.NormAt(NormPlace::kIndexKey)->ApplyToSegments(key);
    const MatrixView<float> weights = index_weights_.RowBlock(first, x.rows);
    ToFloats(out.ColumnBlock(keys.size, keys.heads), weights);
    for (int64_t row = 0; row < x.rows; ++row) {
      TurnIndex(first + row, key.RowBlock(row, 1));
      for (float& weight : weights.RowSpan(row)) {
        weight /= std::sqrt(static_cast<float>(keys.heads));
      }
    }
  }

  void ProjectIndexQueries(int64_t first, ConstOperands latent) {
    const KeyScores& keys = form_.indexer->keys;
    const Operands x = Buffers().copied.Reserve(type_, latent.rows, latent.columns);
    Copy(latent, x);
    const Operands out = index_.RowBlock(first, x.rows).ColumnBlock(0, keys.heads * keys.size);
    PrepareInput(layer_, LinearGroup::kIndexQueries, first, x, context_.observer).Multiply(x, out);
    for (int64_t row = 0; row < x.rows; ++row) {
      for (int64_t head = 0; head < keys.heads; ++head) {
        TurnIndex(first + row, out.RowBlock(row, 1).ColumnBlock(head * keys.size, keys.size));
      }
    }
  }

  // K and V of every head.
  void Expand(int64_t first, Operands latent, ConstOperands turned) {
    const FusedLinear& linear =
        PrepareInput(layer_, LinearGroup::kKeyValueFromLatent, first, latent, context_.observer);
    const int64_t size = form_.plain + heads_.value_size;
    const Operands expanded =
        Buffers().expanded.Reserve(type_, latent.rows, heads_.query_heads * size);
    linear.Multiply(latent, expanded);
    for (int64_t row = 0; row < latent.rows; ++row) {
      const Operands keys = Keys().RowBlock(first + row, 1);
      const Operands values = Values().RowBlock(first + row, 1);
      for (int64_t head = 0; head < heads_.query_heads; ++head) {
        const Operands from = expanded.RowBlock(row, 1).ColumnBlock(head * size, size);
        const Operands key = keys.ColumnBlock(head * heads_.head_size, heads_.head_size);
        Copy(from.ColumnBlock(0, form_.plain), key.ColumnBlock(0, form_.plain));
        Copy(turned.RowBlock(row, 1), key.ColumnBlock(form_.plain, form_.turned));
        Copy(from.ColumnBlock(form_.plain, heads_.value_size),
             values.ColumnBlock(head * heads_.value_size, heads_.value_size));
      }
    }
  }

  const AttentionContext context_;
  const DecoderLayer& layer_;
  const AttentionHeads& heads_;
  const LatentHeads& form_;
  const std::vector<int64_t> positions_;
  const ComputeType type_;
  Operands projected_;  // q, k, v
  Operands attended_;
  Operands index_;  // q and k of an indexer
  MatrixView<float> index_weights_;
  MatrixView<uint8_t> selected_;
  MatrixView<const uint8_t> shown_;
};

}  // namespace

std::unique_ptr<AttentionStep> MakeLatentAttention(const AttentionContext& context) {
  return std::make_unique<LatentAttention>(context);
}

}  // namespace narrow
