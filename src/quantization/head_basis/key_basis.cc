#include "quantization/head_basis/key_basis.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/parallel.h"
#include "device/operations.h"

namespace narrow {
namespace {

constexpr int64_t kTurnedTokens = 128;  // at a time

struct Turn {
  float cosine, sine;
};

Turn TurnOf(int64_t angle) {
  static const auto turns = [] {
    std::array<Turn, kKeyAngles> all;
    for (std::size_t a = 0; a < all.size(); ++a) {
      const double radians = std::numbers::pi / 2 * static_cast<double>(a) / kKeyAngles;
      all[a] = {static_cast<float>(std::cos(radians)), static_cast<float>(std::sin(radians))};
    }
    return all;
  }();
  return turns[static_cast<std::size_t>(angle)];
}

}  // namespace

KeyBasisStatistics::KeyBasisStatistics(const AttentionHeads& heads)
    : heads_(heads),
      errors_(kKeyAngles * heads.key_value_width()),
      queries_(static_cast<std::size_t>(heads.key_value_width() / 2)),
      turned_(kTurnedTokens * errors_.channels()) {
  NARROW_CHECK(heads.head_size % 2 == 0);
}

void KeyBasisStatistics::Add(ConstOperands queries, ConstOperands keys) {
  NARROW_CHECK(queries.rows == keys.rows);
  AddQueries(queries);
  AddKeys(keys);
}

void KeyBasisStatistics::AddKeys(ConstOperands keys) {
  const int64_t width = heads_.key_value_width(), half = heads_.head_size / 2;
  NARROW_CHECK(keys.columns == width);
  for (int64_t first = 0; first < keys.rows; first += kTurnedTokens) {
    const int64_t count = std::min(kTurnedTokens, keys.rows - first);
    const MatrixView<float> turned(turned_.data(), count, errors_.channels());
    ParallelFor(count, [&](int64_t token) {
      const std::span<float> all = turned.RowSpan(token);
      for (int64_t angle = 0; angle < kKeyAngles; ++angle) {
        const Turn turn = TurnOf(angle);
        const std::span<float> out =
            all.subspan(static_cast<std::size_t>(angle * width), static_cast<std::size_t>(width));
        ToFloats(keys.RowBlock(first + token, 1), {out.data(), 1, width});
        for (int64_t head = 0; head < width; head += heads_.head_size) {
          for (int64_t i = head; i < head + half; ++i) {
            const auto first_channel = static_cast<std::size_t>(i);
            TurnPair(turn.cosine, turn.sine, 1.0f, out[first_channel],
                     out[first_channel + static_cast<std::size_t>(half)]);
          }
        }
      }
    });
    errors_.Add(turned);
  }
}

void KeyBasisStatistics::AddQueries(ConstOperands queries) {
  const int64_t half = heads_.head_size / 2;
  const int64_t sharing = heads_.sharing();
  NARROW_CHECK(queries.columns == heads_.query_width());
  ParallelFor(heads_.key_value_heads, [&](int64_t key_head) {
    QuerySquares* sums = queries_.data() + key_head * half;
    std::vector<float> query(static_cast<std::size_t>(heads_.head_size));
    for (int64_t token = 0; token < queries.rows; ++token) {
      for (int64_t head = key_head * sharing; head < (key_head + 1) * sharing; ++head) {
        ToFloats(queries.RowBlock(token, 1).ColumnBlock(head * heads_.head_size, heads_.head_size),
                 {query.data(), 1, heads_.head_size});
        for (int64_t i = 0; i < half; ++i) {
          const double a = query[static_cast<std::size_t>(i)];
          const double b = query[static_cast<std::size_t>(i + half)];
          sums[i].first += a * a;
          sums[i].mixed += a * b;
          sums[i].second += b * b;
        }
      }
    }
  });
}

KeyBasis KeyBasisStatistics::Choose() const {
  const int64_t width = heads_.key_value_width(), half = heads_.head_size / 2;
  KeyBasis basis;
  for (int64_t pair = 0; pair < width / 2; ++pair) {
    const QuerySquares& query = queries_[static_cast<std::size_t>(pair)];
    const int64_t channel = pair / half * heads_.head_size + pair % half;
    const auto cost = [&](int64_t a, int64_t p) {
      const double c = TurnOf(a).cosine, s = TurnOf(a).sine;
      const double first = c * c * query.first - 2 * c * s * query.mixed + s * s * query.second;
      const double second = s * s * query.first + 2 * c * s * query.mixed + c * c * query.second;
      return first * errors_.Spread(p, a * width + channel) +
             second * errors_.Spread(p, a * width + channel + half);
    };
    int64_t angle = 0, phase = kNeutralPhase;
    double least = std::numeric_limits<double>::infinity();
    for (int64_t other = 0; other < kKeyAngles; ++other) {
      const int64_t best = BestPhase([&](int64_t p) { return cost(other, p); });
      if (!(cost(other, best) < least)) continue;
      angle = other;
      phase = best;
      least = cost(other, best);
    }
    basis.factors.push_back(GridPhaseFactor(phase));
    basis.cosines.push_back(TurnOf(angle).cosine);
    basis.sines.push_back(TurnOf(angle).sine);
  }
  return basis;
}

int64_t KeyBasisStatistics::Bytes(const AttentionHeads& heads) {
  const int64_t channels = kKeyAngles * heads.key_value_width();
  return GridErrors::Bytes(channels) + kTurnedTokens * channels * 4 +
         heads.key_value_width() / 2 * static_cast<int64_t>(sizeof(QuerySquares));
}

}  // namespace narrow
