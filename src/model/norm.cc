#include "model/norm.h"

namespace narrow {

Norm::Norm(const NormSpec& spec, std::span<const float> weight, std::span<const float> bias)
    : kind_(spec.kind),
      epsilon_(spec.epsilon),
      segment_(spec.segment == 0 ? spec.size : spec.segment),
      weight_(weight.begin(), weight.end()),
      bias_(bias.begin(), bias.end()) {
  for (float& value : weight_) value += spec.offset;
}

void Norm::Apply(MatrixView<const float> x, Operands y) const {
  if (kind_ == NormSpec::Kind::kRms) return RmsNorm(x, weight_, epsilon_, y);
  LayerNorm(x, weight_, bias_, epsilon_, y);
}

void Norm::ApplyToSegments(Operands x) const {
  std::vector<float> values(static_cast<std::size_t>(segment_));
  const MatrixView<float> row(values.data(), 1, segment_);
  const auto count = static_cast<std::size_t>(segment_);
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t first = 0; first < x.columns; first += segment_) {
      const Operands part = x.RowBlock(r, 1).ColumnBlock(first, segment_);
      const auto place = static_cast<std::size_t>(first) % weight_.size();
      const std::span<const float> weight = std::span(weight_).subspan(place, count);
      ToFloats(part, row);
      if (kind_ == NormSpec::Kind::kRms) {
        RmsNorm(row, weight, epsilon_, part);
      } else {
        const std::span<const float> bias(bias_);
        LayerNorm(row, weight, bias.empty() ? bias : bias.subspan(place, count), epsilon_, part);
      }
    }
  }
}

}  // namespace narrow
