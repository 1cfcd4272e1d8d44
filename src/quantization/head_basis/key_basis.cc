#include "quantization/head_basis/key_basis.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/parallel.h"

namespace narrow {
namespace {

constexpr int64_t kTurnedTokens = 128;  // at a time

float AsFloat(float value) { return value; }
float AsFloat(Bfloat16 value) { return ToFloat(value); }

struct Turn {
  double cosine, sine;
};

Turn TurnOf(int64_t angle) {
  const double radians = std::numbers::pi / 2 * static_cast<double>(angle) / kKeyAngles;
  return {std::cos(radians), std::sin(radians)};
}

int64_t KeyValueWidth(const AttentionHeads& heads) {
  return heads.key_value_heads * heads.head_size;
}

}  // namespace

KeyBasisStatistics::KeyBasisStatistics(const AttentionHeads& heads)
    : heads_(heads),
      errors_(kKeyAngles * KeyValueWidth(heads)),
      queries_(static_cast<std::size_t>(KeyValueWidth(heads) / 2)),
      turned_(kTurnedTokens * errors_.channels()) {
  NARROW_CHECK(heads.head_size % 2 == 0);
}

template <typename T>
void KeyBasisStatistics::Add(MatrixView<const T> queries, MatrixView<const T> keys) {
  const int64_t width = KeyValueWidth(heads_), half = heads_.head_size / 2;
  NARROW_CHECK(keys.columns == width && queries.rows == keys.rows &&
               queries.columns == heads_.query_heads * heads_.head_size);
  AddQueries(queries);
  for (int64_t first = 0; first < keys.rows; first += kTurnedTokens) {
    const int64_t count = std::min(kTurnedTokens, keys.rows - first);
    const MatrixView<float> turned(turned_.data(), count, errors_.channels());
    ParallelFor(count, [&](int64_t token) {
      const T* key = keys.Row(first + token);
      for (int64_t angle = 0; angle < kKeyAngles; ++angle) {
        const Turn turn = TurnOf(angle);
        float* out = turned.Row(token) + angle * width;
        for (int64_t c = 0; c < width; ++c) out[c] = AsFloat(key[c]);
        for (int64_t head = 0; head < width; head += heads_.head_size) {
          for (int64_t i = head; i < head + half; ++i) {
            TurnPair(static_cast<float>(turn.cosine), static_cast<float>(turn.sine), 1.0f, out[i],
                     out[i + half]);
          }
        }
      }
    });
    errors_.Add<float>(turned);
  }
}

template <typename T>
void KeyBasisStatistics::AddQueries(MatrixView<const T> queries) {
  const int64_t half = heads_.head_size / 2;
  const int64_t sharing = heads_.query_heads / heads_.key_value_heads;
  ParallelFor(heads_.key_value_heads, [&](int64_t key_head) {
    QuerySquares* sums = queries_.data() + key_head * half;
    for (int64_t token = 0; token < queries.rows; ++token) {
      for (int64_t head = key_head * sharing; head < (key_head + 1) * sharing; ++head) {
        const T* query = queries.Row(token) + head * heads_.head_size;
        for (int64_t i = 0; i < half; ++i) {
          const double a = AsFloat(query[i]), b = AsFloat(query[i + half]);
          sums[i].first += a * a;
          sums[i].mixed += a * b;
          sums[i].second += b * b;
        }
      }
    }
  });
}

KeyBasis KeyBasisStatistics::Choose() const {
  const int64_t width = KeyValueWidth(heads_), half = heads_.head_size / 2;
  KeyBasis basis;
  for (int64_t pair = 0; pair < width / 2; ++pair) {
    const QuerySquares& query = queries_[static_cast<std::size_t>(pair)];
    const int64_t channel = pair / half * heads_.head_size + pair % half;
    const auto cost = [&](int64_t angle, int64_t phase) {
      const auto [c, s] = TurnOf(angle);
      const double first = c * c * query.first - 2 * c * s * query.mixed + s * s * query.second;
      const double second = s * s * query.first + 2 * c * s * query.mixed + c * c * query.second;
      return first * errors_.Spread(phase, angle * width + channel) +
             second * errors_.Spread(phase, angle * width + channel + half);
    };
    int64_t best = 0;
    for (int64_t angle = 0; angle < kKeyAngles; ++angle) {
      const auto at = [&](int64_t a) {
        return cost(a, BestPhase([&](int64_t phase) { return cost(a, phase); }));
      };
      if (at(angle) < at(best)) best = angle;
    }
    const Turn turn = TurnOf(best);
    basis.factors.push_back(
        GridPhaseFactor(BestPhase([&](int64_t phase) { return cost(best, phase); })));
    basis.cosines.push_back(static_cast<float>(turn.cosine));
    basis.sines.push_back(static_cast<float>(turn.sine));
  }
  return basis;
}

int64_t KeyBasisStatistics::Bytes(const AttentionHeads& heads) {
  const int64_t channels = kKeyAngles * KeyValueWidth(heads);
  return GridErrors::Bytes(channels) + kTurnedTokens * channels * 4 +
         KeyValueWidth(heads) / 2 * static_cast<int64_t>(sizeof(QuerySquares));
}

template void KeyBasisStatistics::Add<float>(MatrixView<const float>, MatrixView<const float>);
template void KeyBasisStatistics::Add<Bfloat16>(MatrixView<const Bfloat16>,
                                                MatrixView<const Bfloat16>);

}  // namespace narrow
