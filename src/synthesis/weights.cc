#include "synthesis/weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/checked_math.h"
#include "base/error.h"
#include "synthesis/random.h"

namespace narrow {
namespace {

constexpr double kSmallDeviation = 0.02;  // of embeddings and biases
// Standard deviations of the logarithms of the factors.
constexpr double kTensorSpread = 0.2;
constexpr double kRowSpread = 0.3;
constexpr double kColumnSpread = 0.2;
constexpr double kNormSpread = 0.1;
constexpr int64_t kChannelsPerOutlier = 1024;
constexpr int64_t kMaxColumns = int64_t{1} << 32;

// What the numbers derived from a tensor's key are for.
enum Purpose : uint64_t { kElements, kTensor, kRows, kColumns, kChannels, kFactors };

// Log-normal with mean square 1, so that spread changes no overall size.
double SpreadFactor(uint64_t word, double spread) {
  return std::exp(spread * NormalNumber(word) - spread * spread);
}

// Round to nearest even; the values are finite.
Bfloat16 Rounded(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return {static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

float FactorOf(const std::vector<OutlierChannel>& outliers, int64_t channel) {
  const auto found = std::ranges::lower_bound(outliers, channel, {}, &OutlierChannel::channel);
  return found != outliers.end() && found->channel == channel ? found->factor : 1.0f;
}

}  // namespace

void CheckTensorToFill(const TensorToFill& tensor) {
  const TensorSpec& spec = tensor.spec;
  const bool matrix = tensor.kind == TensorKind::kMatrix || tensor.kind == TensorKind::kEmbedding;
  if (spec.dtype != Dtype::kBF16) {
    Fail(ErrorCode::kInvalidArgument, "tensor {}: only BF16 can be filled, found {}", spec.name,
         Name(spec.dtype));
  }
  const auto elements = CheckedProduct(spec.shape);
  const auto bytes = elements ? CheckedMultiply(*elements, ElementBytes(spec.dtype)) : elements;
  // The weights of a convolution of each channel are a matrix, too: [channels, 1, taps].
  const bool convolution = spec.shape.size() == 3 && spec.shape[1] == 1;
  if ((spec.shape.size() != (matrix ? 2 : 1) && !(matrix && convolution)) || !bytes ||
      *bytes == 0 || spec.shape.back() > kMaxColumns) {
    Fail(ErrorCode::kInvalidArgument, "tensor {}: cannot fill shape [{}]; expected {}", spec.name,
         fmt::join(spec.shape, ", "), matrix ? "[rows, columns]" : "[size]");
  }
  if (!std::isfinite(tensor.gain)) {
    Fail(ErrorCode::kInvalidArgument, "tensor {}: gain {} is not finite", spec.name, tensor.gain);
  }
}

std::vector<OutlierChannel> OutlierChannels(uint64_t seed, const std::string& place,
                                            int64_t width) {
  NARROW_CHECK(width > 0);
  const RandomWords channels(DeriveKey(DeriveKey(seed, kChannels), static_cast<uint64_t>(width)));
  const RandomWords factors(DeriveKey(DeriveKey(seed, place), kFactors));
  const auto count = static_cast<std::size_t>(std::max<int64_t>(width / kChannelsPerOutlier, 1));
  std::vector<OutlierChannel> outliers;
  for (uint64_t i = 0; outliers.size() < count; ++i) {
    const auto channel = static_cast<int64_t>(channels[i] % static_cast<uint64_t>(width));
    const auto next = std::ranges::lower_bound(outliers, channel, {}, &OutlierChannel::channel);
    if (next != outliers.end() && next->channel == channel) continue;
    const auto factor = static_cast<float>(10.0 + 10.0 * UniformNumber(factors[i]));
    outliers.insert(next, {channel, factor});
  }
  return outliers;
}

WeightGenerator::WeightGenerator(const TensorToFill& tensor, uint64_t seed)
    : kind_(tensor.kind), key_(DeriveKey(seed, tensor.spec.name)) {
  CheckTensorToFill(tensor);
  const Shape& shape = tensor.spec.shape;
  const double columns = static_cast<double>(shape.back());
  switch (kind_) {
    case TensorKind::kMatrix: {
      rows_ = shape[0];
      row_spread_ = kRowSpread;
      const double level = SpreadFactor(DeriveKey(key_, kTensor), kTensorSpread);
      SetColumns(tensor, seed, level / std::sqrt(columns), kColumnSpread);
      break;
    }
    case TensorKind::kEmbedding:
      rows_ = shape[0];
      row_spread_ = kRowSpread;
      SetColumns(tensor, seed, kSmallDeviation, kColumnSpread);
      break;
    case TensorKind::kNorm:
    case TensorKind::kNormLessOne:
      SetColumns(tensor, seed, kNormalUnit, 0.0);
      break;
    case TensorKind::kBias:
      SetColumns(tensor, seed, kSmallDeviation, 0.0);
      break;
  }
}

void WeightGenerator::SetColumns(const TensorToFill& tensor, uint64_t seed, double deviation,
                                 double spread) {
  const int64_t columns = tensor.spec.shape.back();
  const RandomWords words(DeriveKey(key_, kColumns));
  column_factors_.resize(static_cast<std::size_t>(columns));
  const double base = tensor.gain * deviation / kNormalUnit;
  for (std::size_t i = 0; i < column_factors_.size(); ++i) {
    column_factors_[i] = static_cast<float>(base * SpreadFactor(words[i], spread));
  }
  if (!tensor.input_place.empty()) {
    for (const OutlierChannel& outlier : OutlierChannels(seed, tensor.input_place, columns)) {
      column_factors_[static_cast<std::size_t>(outlier.channel)] /= outlier.factor;
    }
  }
  if (tensor.output_place.empty()) return;
  const bool vector = kind_ != TensorKind::kMatrix && kind_ != TensorKind::kEmbedding;
  row_outliers_ = OutlierChannels(seed, tensor.output_place, vector ? columns : rows_);
  if (!vector) return;
  for (const OutlierChannel& outlier : row_outliers_) {
    column_factors_[static_cast<std::size_t>(outlier.channel)] *= outlier.factor;
  }
  row_outliers_.clear();
}

void WeightGenerator::FillRow(int64_t row, std::span<Bfloat16> out) const noexcept {
  if (kind_ == TensorKind::kNorm || kind_ == TensorKind::kNormLessOne) return FillNorm(out);
  const auto position = static_cast<uint64_t>(row);
  const double spread = SpreadFactor(RandomWords(DeriveKey(key_, kRows))[position], row_spread_);
  const float factor = static_cast<float>(spread) * FactorOf(row_outliers_, row);
  const RandomWords words(DeriveKey(DeriveKey(key_, kElements), position));
  const float* const columns = column_factors_.data();
  // In two steps, because compilers vectorise the second one.
  std::array<int32_t, 512> sums;
  for (std::size_t first = 0; first < out.size(); first += sums.size()) {
    const std::size_t count = std::min(sums.size(), out.size() - first);
    for (std::size_t i = 0; i < count; ++i) sums[i] = NormalSum(words[first + i]);
    for (std::size_t i = 0; i < count; ++i) {
      out[first + i] = Rounded(static_cast<float>(sums[i]) * columns[first + i] * factor);
    }
  }
}

void WeightGenerator::FillNorm(std::span<Bfloat16> out) const noexcept {
  const RandomWords words(DeriveKey(key_, kElements));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto value = static_cast<float>(SpreadFactor(words[i], kNormSpread));
    out[i] = Rounded(value * column_factors_[i]);
  }
}

}  // namespace narrow
