// A Gated DeltaNet in the place of attention.
#include <algorithm>
#include <cmath>

#include "model/attention_step.h"

namespace narrow {
namespace {

float Softplus(float x) { return x > 20.0f ? x : std::log1p(std::exp(x)); }

class DeltaNetStep final : public AttentionStep {
 public:
  explicit DeltaNetStep(const AttentionContext& context)
      : context_(context),
        layer_(context.layer),
        net_(*layer_.spec.attention.As<DeltaNet>()),
        projected_(context.workspace.projected.Reserve(TypeOf(layer_), context.rows,
                                                       net_.mixed_width() + net_.value_width())),
        attended_(
            context.workspace.attended.Reserve(TypeOf(layer_), context.rows, net_.value_width())) {
    AlignedBuffer<float>& memory = context.workspace.rates;
    const int64_t size = context.rows * net_.value_heads;
    if (memory.size() < 2 * size) memory = AlignedBuffer<float>(2 * size);
    beta_ = {memory.data(), context.rows, net_.value_heads};
    log_decay_ = {memory.data() + size, context.rows, net_.value_heads};
  }

  void Project(int64_t first, Operands input) override {
    ComputeRates(first, input);
    const Operands out = projected_.RowBlock(first, input.rows);
    const FusedLinear& linear =
        PrepareInput(layer_, LinearGroup::kQueryKeyValue, first, input, context_.observer);
    if (net_.layout == DeltaNet::Layout::kByPart) return linear.Multiply(input, out);
    thread_local OperandBuffer buffer;
    const Operands mixed = buffer.Reserve(out.type, out.rows, out.columns);
    linear.Multiply(input, mixed);
    const int64_t key = net_.key_size, value = net_.sharing() * net_.value_size;
    const int64_t keys = net_.key_width();
    for (int64_t row = 0; row < out.rows; ++row) {
      for (int64_t head = 0; head < net_.key_heads; ++head) {
        const Operands from =
            mixed.RowBlock(row, 1).ColumnBlock(head * 2 * (key + value), 2 * (key + value));
        const Operands to = out.RowBlock(row, 1);
        Copy(from.ColumnBlock(0, key), to.ColumnBlock(head * key, key));
        Copy(from.ColumnBlock(key, key), to.ColumnBlock(keys + head * key, key));
        Copy(from.ColumnBlock(2 * key, value), to.ColumnBlock(2 * keys + head * value, value));
        Copy(from.ColumnBlock(2 * key + value, value),
             to.ColumnBlock(net_.mixed_width() + head * value, value));
      }
    }
  }

  void Attend() override {
    GatedDeltaRule(net_, context_.sequences, projected_.ColumnBlock(0, net_.mixed_width()),
                   Parameter(ParameterRole::kConvolution), log_decay_, beta_, attended_);
  }

  Operands Attended(int64_t first, int64_t rows) override {
    const Operands x = attended_.RowBlock(first, rows);
    layer_.NormAt(NormPlace::kAttended)->ApplyToSegments(x);
    const Operands gates =
        projected_.ColumnBlock(net_.mixed_width(), net_.value_width()).RowBlock(first, rows);
    Activate(Activation::kSilu, gates, x, x);
    return x;
  }

 private:
  std::span<const float> Parameter(ParameterRole role) const {
    return layer_.Plain(layer_.spec.Parameter(role));
  }

  // beta is the sigmoid of b, and the state decays by exp(-exp(A_log) softplus(a + dt_bias)).
  void ComputeRates(int64_t first, ConstOperands input) {
    thread_local OperandBuffer copied, buffer;
    const Operands x = copied.Reserve(input.type, input.rows, input.columns);
    Copy(input, x);
    const int64_t heads = net_.value_heads;
    const MatrixView<float> rates =
        buffer.Reserve(ComputeType::kFloat32, x.rows, 2 * heads).As<float>();
    std::fill_n(rates.data, rates.rows * rates.columns, 0.0f);
    PrepareInput(layer_, LinearGroup::kDeltaRates, first, x, context_.observer)
        .MultiplyAdd(x, rates);
    const std::span<const float> decay_log = Parameter(ParameterRole::kDecayLog);
    const std::span<const float> bias = Parameter(ParameterRole::kDecayBias);
    const int64_t sharing =
        net_.layout == DeltaNet::Layout::kByPart ? net_.value_heads : net_.sharing();
    for (int64_t row = 0; row < rates.rows; ++row) {
      for (int64_t head = 0; head < heads; ++head) {
        const auto h = static_cast<std::size_t>(head);
        const int64_t place = head / sharing * 2 * sharing + head % sharing;
        const float b = rates.Row(row)[place], a = rates.Row(row)[place + sharing];
        beta_.Row(first + row)[head] = 1.0f / (1.0f + std::exp(-b));
        log_decay_.Row(first + row)[head] = -std::exp(decay_log[h]) * Softplus(a + bias[h]);
      }
    }
  }

  const AttentionContext context_;
  const DecoderLayer& layer_;
  const DeltaNet& net_;
  Operands projected_;  // q, k, v, and the gate
  Operands attended_;
  MatrixView<float> beta_, log_decay_;  // [tokens, value heads]
};

}  // namespace

std::unique_ptr<AttentionStep> MakeDeltaNet(const AttentionContext& context) {
  return std::make_unique<DeltaNetStep>(context);
}

}  // namespace narrow
