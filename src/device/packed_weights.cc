#include "device/packed_weights.h"

#include <algorithm>

#include "kernels/feedback.h"

namespace narrow {
namespace {

template <typename T>
T ElementOf(const PackedMatrix<T>&) {
  return {};
}

}  // namespace

PackedWeights::PackedWeights(ComputeType type, int64_t rows, int64_t columns, int64_t panel_rows) {
  WithElement(type, [&](auto element) {
    matrix_ = PackedMatrix<decltype(element)>(rows, columns, panel_rows);
  });
}

int64_t PackedWeights::ThreadBytes(ComputeType type, int64_t rows, int64_t columns, int64_t m,
                                   int64_t output_bytes) {
  return WithElement(type, [&](auto element) {
    return PackedMatrix<decltype(element)>::ThreadBytes(rows, columns, m, output_bytes);
  });
}

ComputeType PackedWeights::type() const {
  return std::holds_alternative<PackedMatrix<float>>(matrix_) ? ComputeType::kFloat32
                                                              : ComputeType::kBfloat16;
}
int64_t PackedWeights::rows() const {
  return std::visit([](const auto& matrix) { return matrix.rows(); }, matrix_);
}
int64_t PackedWeights::columns() const {
  return std::visit([](const auto& matrix) { return matrix.columns(); }, matrix_);
}
int64_t PackedWeights::panel_rows() const {
  return std::visit([](const auto& matrix) { return matrix.panel_rows(); }, matrix_);
}
int64_t PackedWeights::panel_count() const {
  return std::visit([](const auto& matrix) { return matrix.panel_count(); }, matrix_);
}
int64_t PackedWeights::bytes() const {
  return std::visit([](const auto& matrix) { return matrix.bytes(); }, matrix_);
}

void PackedWeights::PackPanel(int64_t panel, ConstOperands w) {
  std::visit([&](auto& matrix) { matrix.PackPanel(panel, w.As<decltype(ElementOf(matrix))>()); },
             matrix_);
}
void PackedWeights::UnpackPanel(int64_t panel, Operands w) const {
  std::visit(
      [&](const auto& matrix) { matrix.UnpackPanel(panel, w.As<decltype(ElementOf(matrix))>()); },
      matrix_);
}
void PackedWeights::Pack(ConstOperands w) {
  for (int64_t p = 0, first = 0; p < panel_count(); ++p, first += panel_rows()) {
    PackPanel(p, w.RowBlock(first, std::min(panel_rows(), w.rows - first)));
  }
}

void PackedWeights::SetEpilogue(std::span<const float> scales, std::span<const float> bias) {
  std::visit([&](auto& matrix) { matrix.SetEpilogue(scales, bias); }, matrix_);
}

void PackedWeights::Multiply(ConstOperands x, Operands out) const {
  std::visit(
      [&](const auto& matrix) {
        using T = decltype(ElementOf(matrix));
        matrix.Multiply(x.As<T>(), out.As<T>());
      },
      matrix_);
}
void PackedWeights::MultiplyAdd(ConstOperands x, MatrixView<float> out) const {
  std::visit(
      [&](const auto& matrix) { matrix.MultiplyAdd(x.As<decltype(ElementOf(matrix))>(), out); },
      matrix_);
}
void PackedWeights::MultiplyPanel(int64_t panel, ConstOperands x, MatrixView<float> out) const {
  std::visit(
      [&](const auto& matrix) {
        matrix.MultiplyPanel(panel, x.As<decltype(ElementOf(matrix))>(), out);
      },
      matrix_);
}

int64_t RewriteRows(int64_t columns) {
  const int64_t fitting = kRewriteBytes / (columns * static_cast<int64_t>(sizeof(float)));
  if (fitting < kRoundingChunkRows) return std::max<int64_t>(1, fitting);
  return fitting / kRoundingChunkRows * kRoundingChunkRows;
}

}  // namespace narrow
