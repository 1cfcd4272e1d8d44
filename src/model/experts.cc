#include "model/experts.h"

#include <algorithm>

#include "base/checked_math.h"
#include "base/parallel.h"

namespace narrow {
namespace {

// Tiles have few different sizes: each is a product of its own to the device.
constexpr int64_t kRowMultiple = 32;

struct TileBuffers {
  OperandBuffer input, gate_up, activated, sum;
};
TileBuffers& Tile() {
  thread_local TileBuffers buffers;
  return buffers;
}

// As many tiles as threads, or more where they would be too long.
int64_t ExpertTileRows(int64_t rows, int64_t hidden) {
  const int64_t share = RoundUp(DivideRoundUp(rows, ThreadCount()), kRowMultiple);
  return std::min(share, TileRows(hidden));
}

class ExpertStep {
 public:
  ExpertStep(const DecoderLayer& expert, Routing::Weighed weighed, const RoutedRows& routed,
             const ExpertRows& rows, MatrixView<float> hidden, LayerObserver* observer)
      : expert_(expert),
        mlp_(*expert.spec.mlp),
        weighs_input_(weighed == Routing::Weighed::kInput),
        routed_(routed),
        rows_(rows),
        hidden_(hidden),
        observer_(observer),
        compute_(expert.Linear(LinearGroup::kDown).weights().type()) {}

  // Rows of the tile beyond those that there are hold zeros.
  void Run(int64_t first, int64_t count) {
    const int64_t padded = RoundUp(count, kRowMultiple);
    const Operands x = Gather(first, count, padded);
    const int64_t width = mlp_.gate == MlpBlock::Gate::kPresent ? 2 * mlp_.width : mlp_.width;
    const Operands gate_up = Tile().gate_up.Reserve(compute_, padded, width);
    Prepare(LinearGroup::kGateUp, first, count, x).Multiply(x, gate_up);
    const Operands activated = Tile().activated.Reserve(compute_, padded, mlp_.width);
    ActivateMlp(mlp_, gate_up, activated);
    if (hidden_.data == nullptr) {
      observer_->OnInput(LinearGroup::kDown, first, activated.RowBlock(0, count));
      return;
    }
    const MatrixView<float> sum =
        Tile().sum.Reserve(ComputeType::kFloat32, padded, expert_.spec.hidden).As<float>();
    std::fill_n(sum.data, sum.rows * sum.columns, 0.0f);
    Prepare(LinearGroup::kDown, first, count, activated).MultiplyAdd(activated, sum);
    for (int64_t i = 0; i < count; ++i) Add(first + i, sum.RowSpan(i));
  }

 private:
  int64_t RowAt(int64_t i) const { return rows_.rows[static_cast<std::size_t>(i)]; }
  float WeightAt(int64_t i) const { return rows_.weights[static_cast<std::size_t>(i)]; }

  Operands Gather(int64_t first, int64_t count, int64_t padded) const {
    const int64_t hidden = expert_.spec.hidden;
    const Operands x = Tile().input.Reserve(compute_, padded, hidden);
    std::vector<float> row(static_cast<std::size_t>(hidden));
    for (int64_t i = 0; i < padded; ++i) {
      std::ranges::fill(row, 0.0f);
      if (i < count) {
        const std::span<const float> input = routed_.inputs.RowSpan(RowAt(first + i));
        const float scale = weighs_input_ ? WeightAt(first + i) : 1.0f;
        std::ranges::transform(input, row.begin(), [=](float value) { return value * scale; });
      }
      FromFloats(MatrixView<const float>(row.data(), 1, hidden), x.RowBlock(i, 1));
    }
    return x;
  }

  const FusedLinear& Prepare(LinearGroup group, int64_t first, int64_t count, Operands x) {
    if (observer_ != nullptr) observer_->OnInput(group, first, x.RowBlock(0, count));
    expert_.Linear(group).RoundInput(x);
    return expert_.Linear(group);
  }

  void Add(int64_t i, std::span<const float> sum) {
    const float weight = weighs_input_ && WeightAt(i) != 0.0f ? 1.0f : WeightAt(i);
    if (weight == 0.0f) return;  // seen for statistics alone
    const float scale = mlp_.residual_scale * weight;
    float* out = hidden_.Row(RowAt(i));
    for (std::size_t c = 0; c < sum.size(); ++c) out[c] += scale * sum[c];
  }

  const DecoderLayer& expert_;
  const MlpBlock& mlp_;
  const bool weighs_input_;
  const RoutedRows& routed_;
  const ExpertRows& rows_;
  const MatrixView<float> hidden_;
  LayerObserver* observer_;
  const ComputeType compute_;
};

// Calls visit(row, weight of the expert for it, or nothing) for every row.
template <typename Visit>
void ForWeights(const RoutedRows& routed, int64_t rows, int32_t expert, const Visit& visit) {
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t* const begin = routed.experts + row * routed.per_token;
    const int32_t* const end = begin + routed.per_token;
    const int32_t* const found = std::find(begin, end, expert);
    visit(row, found == end ? nullptr : &routed.weights[found - routed.experts]);
  }
}

}  // namespace

ExpertRows RowsOfExpert(const RoutedRows& routed, int64_t rows, int32_t expert) {
  ExpertRows chosen;
  ForWeights(routed, rows, expert, [&](int64_t row, const float* weight) {
    if (weight == nullptr) return;
    chosen.rows.push_back(row);
    chosen.weights.push_back(*weight);
  });
  return chosen;
}

ExpertRows AllRows(const RoutedRows& routed, int64_t rows, int32_t expert) {
  ExpertRows all;
  ForWeights(routed, rows, expert, [&](int64_t row, const float* weight) {
    all.rows.push_back(row);
    all.weights.push_back(weight == nullptr ? 0.0f : *weight);
  });
  return all;
}

void ForwardExpert(const DecoderLayer& expert, Routing::Weighed weighed, const RoutedRows& routed,
                   const ExpertRows& rows, MatrixView<float> hidden, LayerObserver* observer) {
  const int64_t count = std::ssize(rows.rows);
  if (count == 0) return;
  ExpertStep step(expert, weighed, routed, rows, hidden, observer);
  ForTiles(count, ExpertTileRows(count, expert.spec.hidden),
           [&](int64_t first, int64_t tile_rows) { step.Run(first, tile_rows); });
}

int64_t ExpertFlopsPerToken(const LayerSpec& layer) {
  if (!layer.experts) return 0;
  return layer.experts->per_token * LinearFlopsPerToken(ExpertLayer(layer, 0));
}

int64_t ExpertTileBytes(const LayerSpec& expert, ComputeType compute) {
  const int64_t rows = TileRows(expert.hidden);
  return TileBytes(expert, compute) + rows * expert.hidden * static_cast<int64_t>(sizeof(float));
}

}  // namespace narrow
