// Softmax attention over heads that are products of the hidden states.
#include <cmath>

#include "model/attention_step.h"

namespace narrow {
namespace {

class SoftmaxAttention final : public AttentionStep {
 public:
  explicit SoftmaxAttention(const AttentionContext& context)
      : context_(context),
        layer_(context.layer),
        spec_(layer_.spec),
        heads_(spec_.attention.heads),
        gated_(spec_.attention.As<DirectHeads>()->gate == DirectHeads::OutputGate::kByHead),
        positions_(PositionsOf(context.sequences, context.rows)) {
    const int64_t width = heads_.query_width() + 2 * heads_.key_value_width();
    projected_ = context.workspace.projected.Reserve(TypeOf(layer_), context.rows,
                                                     width + (gated_ ? heads_.query_width() : 0));
    attended_ =
        context.workspace.attended.Reserve(TypeOf(layer_), context.rows, heads_.query_width());
  }

  void Project(int64_t first, Operands input) override {
    const int64_t rows = input.rows;
    Multiply(PrepareInput(layer_, LinearGroup::kQueryKeyValue, first, input, context_.observer),
             input, projected_.RowBlock(first, rows));
    const Operands queries = Queries().RowBlock(first, rows);
    const Operands keys = Keys().RowBlock(first, rows);
    const Operands values = Values().RowBlock(first, rows);
    using HeadNorms = AttentionBlock::HeadNorms;
    if (spec_.attention.head_norms == HeadNorms::kBeforeRotation) NormHeads(queries, keys);
    for (int64_t row = first; context_.rope != nullptr && row < first + rows; ++row) {
      RotateRow(row);
    }
    if (spec_.attention.head_norms == HeadNorms::kAfterRotation) NormHeads(queries, keys);
    if (spec_.attention.temperature) ScaleQueries(first, queries);
    if (context_.observer != nullptr) {
      context_.observer->OnQueries(first, queries);
      context_.observer->OnKeys(first, keys);
      context_.observer->OnValues(first, values);
    }
    if (!layer_.cache) return;
    if (InFloat8()) RoundToFloat8Grid(queries, layer_.cache->query_scale);
    RoundCache(keys, layer_.cache->key_scale, layer_.cache->key_scales);
    RoundCache(values, layer_.cache->value_scale, layer_.cache->value_scales);
  }

  void Attend() override {
    AttentionScores scores = spec_.attention.scores;
    const std::string& sinks = spec_.attention.sinks;
    float value_scale = 1.0f;
    if (layer_.cache) {
      scores.scale *= layer_.cache->key_scale;
      value_scale = layer_.cache->value_scale;
    }
    if (InFloat8()) scores.scale *= layer_.cache->query_scale;
    CausalAttention(heads_, context_.sequences, Queries(), Keys(), Values(), scores, value_scale,
                    attended_,
                    InFloat8() ? ProbabilityRounding::kFloat8 : ProbabilityRounding::kOperand,
                    sinks.empty() ? std::span<const float>() : layer_.Plain(sinks));
  }

  Operands Attended(int64_t first, int64_t rows) override {
    const Operands x = attended_.RowBlock(first, rows);
    if (gated_) Activate(Activation::kSigmoid, Gates().RowBlock(first, rows), x, x);
    if (!layer_.attended_mixing.empty()) MixHeads(x);
    return x;
  }

 private:
  bool InFloat8() const { return layer_.cache && layer_.attention == AttentionArithmetic::kFloat8; }

  Operands Queries() const { return projected_.ColumnBlock(0, heads_.query_width()); }
  Operands Keys() const {
    return projected_.ColumnBlock(heads_.query_width(), heads_.key_value_width());
  }
  Operands Values() const {
    return projected_.ColumnBlock(heads_.query_width() + heads_.key_value_width(),
                                  heads_.key_value_width());
  }
  Operands Gates() const {
    return projected_.ColumnBlock(heads_.query_width() + 2 * heads_.key_value_width(),
                                  heads_.query_width());
  }

  // Where gates lie between the heads of q, they go to the end of the row.
  void Multiply(const FusedLinear& linear, ConstOperands input, Operands out) const {
    if (!gated_) return linear.Multiply(input, out);
    thread_local OperandBuffer buffer;
    const Operands mixed = buffer.Reserve(out.type, out.rows, out.columns);
    linear.Multiply(input, mixed);
    const int64_t size = heads_.head_size, queries = heads_.query_width();
    const int64_t others = 2 * heads_.key_value_width();
    for (int64_t row = 0; row < out.rows; ++row) {
      const Operands from = mixed.RowBlock(row, 1), to = out.RowBlock(row, 1);
      for (int64_t head = 0; head < heads_.query_heads; ++head) {
        const int64_t place = head * size;
        Copy(from.ColumnBlock(2 * place, size), to.ColumnBlock(place, size));
        Copy(from.ColumnBlock(2 * place + size, size),
             to.ColumnBlock(queries + others + place, size));
      }
      Copy(from.ColumnBlock(2 * queries, others), to.ColumnBlock(queries, others));
    }
  }

  // One scale for all heads multiplies what attention makes of the rounded numbers; scales of heads
  // multiply these.
  void RoundCache(Operands x, float scale, const std::vector<float>& of_heads) const {
    if (of_heads.empty()) return RoundToFloat8Grid(x, scale);
    for (std::size_t head = 0; head < of_heads.size(); ++head) {
      const Operands part =
          x.ColumnBlock(static_cast<int64_t>(head) * heads_.head_size, heads_.head_size);
      RoundToFloat8Grid(part, of_heads[head]);
      for (int64_t row = 0; row < x.rows; ++row) Scale(part.RowBlock(row, 1), of_heads[head]);
    }
  }

  void NormHeads(Operands queries, Operands keys) const {
    if (const Norm* norm = layer_.NormAt(NormPlace::kQuery)) norm->ApplyToSegments(queries);
    if (const Norm* norm = layer_.NormAt(NormPlace::kKey)) norm->ApplyToSegments(keys);
  }

  void RotateRow(int64_t row) const {
    const int64_t rotated = heads_.query_width() + heads_.key_value_width();
    const Operands all = projected_.RowBlock(row, 1);
    const int64_t position = positions_[static_cast<std::size_t>(row)];
    for (int64_t offset = 0; offset < rotated; offset += heads_.head_size) {
      RotateHead(all.ColumnBlock(offset, heads_.head_size), spec_.attention.rotary->pairs,
                 context_.rope->Cosine(position), context_.rope->Sine(position));
    }
  }

  void ScaleQueries(int64_t first, Operands queries) const {
    const QueryTemperature& temperature = *spec_.attention.temperature;
    for (int64_t row = 0; row < queries.rows; ++row) {
      const auto position = static_cast<double>(positions_[static_cast<std::size_t>(first + row)]);
      const double steps = std::log1p(std::floor(position / temperature.positions));
      Scale(queries.RowBlock(row, 1), 1.0f + temperature.beta * static_cast<float>(steps));
    }
  }

  void MixHeads(Operands x) const {
    const int64_t size = heads_.head_size;
    for (int64_t head = 0; head < heads_.query_heads; ++head) {
      const AlignedBuffer<float>& mixing =
          layer_.attended_mixing[static_cast<std::size_t>(head / heads_.sharing())];
      MixHead({mixing.data(), size, size}, x.ColumnBlock(head * size, size));
    }
  }

  const AttentionContext context_;
  const DecoderLayer& layer_;
  const LayerSpec& spec_;
  const AttentionHeads& heads_;
  const bool gated_;
  const std::vector<int64_t> positions_;
  Operands projected_;  // q, k, v, and gates
  Operands attended_;
};

}  // namespace

std::unique_ptr<AttentionStep> MakeSoftmaxAttention(const AttentionContext& context) {
  return std::make_unique<SoftmaxAttention>(context);
}

}  // namespace narrow
