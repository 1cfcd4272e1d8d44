#include "device/operations.h"

#include <algorithm>
#include <vector>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"

namespace narrow {

void ForTiles(int64_t rows, int64_t tile_rows,
              const std::function<void(int64_t first, int64_t count)>& tile) {
  ParallelFor(DivideRoundUp(rows, tile_rows),
              [&](int64_t i) { tile(i * tile_rows, std::min(tile_rows, rows - i * tile_rows)); });
}

void ToFloats(ConstOperands from, MatrixView<float> to) {
  WithElement(from.type, [&](auto element) {
    const auto rows = from.As<decltype(element)>();
    for (int64_t row = 0; row < to.rows; ++row) ToFloats(rows.RowSpan(row), to.RowSpan(row));
  });
}

void FromFloats(MatrixView<const float> from, Operands to) {
  WithElement(to.type, [&](auto element) {
    const auto rows = to.As<decltype(element)>();
    for (int64_t row = 0; row < to.rows; ++row) FromFloats(from.RowSpan(row), rows.RowSpan(row));
  });
}

void Copy(ConstOperands from, Operands to) {
  WithElement(to.type, [&](auto element) {
    using T = decltype(element);
    for (int64_t row = 0; row < to.rows; ++row) {
      std::ranges::copy(from.As<T>().RowSpan(row), to.As<T>().Row(row));
    }
  });
}

void RmsNorm(MatrixView<const float> x, std::span<const float> weight, float epsilon, Operands y) {
  WithElement(y.type, [&](auto element) {
    using T = decltype(element);
    RmsNorm<T>(x, weight, epsilon, y.As<T>());
  });
}

void LayerNorm(MatrixView<const float> x, std::span<const float> weight,
               std::span<const float> bias, float epsilon, Operands y) {
  WithElement(y.type, [&](auto element) {
    using T = decltype(element);
    LayerNorm<T>(x, weight, bias, epsilon, y.As<T>());
  });
}

void Activate(Activation activation, ConstOperands gate, ConstOperands up, Operands out) {
  WithElement(out.type, [&](auto element) {
    using T = decltype(element);
    Activate<T>(activation, gate.As<T>(), up.rows > 0 ? up.As<T>() : MatrixView<const T>(),
                out.As<T>());
  });
}

void RotateHead(Operands head, RotaryPairs pairs, std::span<const float> cosine,
                std::span<const float> sine) {
  const Operands turned = head.ColumnBlock(0, 2 * std::ssize(cosine));
  if (pairs == RotaryPairs::kHalves) {
    return WithElement(head.type, [&](auto element) {
      using T = decltype(element);
      const std::span<T> x = turned.As<T>().RowSpan(0);
      RotateHead<T>(x, cosine, sine, x);
    });
  }
  std::vector<float> values(2 * cosine.size());
  const MatrixView<float> row(values.data(), 1, std::ssize(values));
  ToFloats(turned, row);
  for (std::size_t i = 0; i < cosine.size(); ++i) {
    const float a = values[2 * i], b = values[2 * i + 1];
    values[2 * i] = a * cosine[i] - b * sine[i];
    values[2 * i + 1] = b * cosine[i] + a * sine[i];
  }
  FromFloats(row, turned);
}

void Scale(Operands x, float scale) {
  std::vector<float> values(static_cast<std::size_t>(x.columns));
  const MatrixView<float> row(values.data(), 1, x.columns);
  for (int64_t r = 0; r < x.rows; ++r) {
    ToFloats(x.RowBlock(r, 1), row);
    for (float& value : values) value *= scale;
    FromFloats(row, x.RowBlock(r, 1));
  }
}

AbsoluteMaximum FindMaximum(ConstOperands row) {
  return WithElement(row.type, [&](auto element) {
    return FindAbsoluteMaximum(row.As<decltype(element)>().RowSpan(0));
  });
}

void DecodeFloat8(std::span<const Float8E4M3> codes, Operands row) {
  WithElement(row.type,
              [&](auto element) { DecodeFloat8(codes, row.As<decltype(element)>().RowSpan(0)); });
}

void RoundToFloat8Grid(Operands x, float scale) {
  WithElement(x.type, [&](auto element) {
    const auto rows = x.As<decltype(element)>();
    for (int64_t row = 0; row < x.rows; ++row) RoundToFloat8Grid(rows.RowSpan(row), scale);
  });
}

void MixHead(MatrixView<const float> mixing, Operands x) {
  AlignedBuffer<float> before(x.rows * x.columns), after(x.rows * x.columns);
  const MatrixView<float> in(before.data(), x.rows, x.columns);
  const MatrixView<float> out(after.data(), x.rows, x.columns);
  ToFloats(x, in);
  ProductTransposed(in, mixing, out);
  FromFloats(out, x);
}

void CausalAttention(const AttentionHeads& heads, std::span<const Sequence> sequences,
                     ConstOperands q, ConstOperands k, ConstOperands v,
                     const AttentionScores& scoring, float value_scale, Operands out,
                     ProbabilityRounding rounding, std::span<const float> sinks) {
  WithElement(out.type, [&](auto element) {
    using T = decltype(element);
    CausalAttention<T>(heads, sequences, q.As<T>(), k.As<T>(), v.As<T>(), scoring, value_scale,
                       out.As<T>(), rounding, sinks);
  });
}

void ProductTransposed(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> c) {
  ProductTransposed<float>(a, b, c);
}

void ProductAdd(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> c) {
  ProductAdd<float>(a, b, c);
}

}  // namespace narrow
