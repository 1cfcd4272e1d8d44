#include "schemes/weight_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/parallel.h"
#include "schemes/block_scales.h"
#include "tensor/scalar_types.h"

namespace narrow {
namespace {

constexpr int64_t kRowsOfZeroWord = 8;
// What one thread encodes at a time: enough to be worth handing out.
constexpr int64_t kUnitBytes = int64_t{1} << 18;

int64_t Blocks(int64_t size, int64_t block) { return block == 0 ? 1 : DivideRoundUp(size, block); }

int64_t ScaleBytes(const TensorScheme& scheme, const WeightRule& rule, Dtype type) {
  if (scheme.scale != ScaleFormat::kFloat) return 1;
  return rule.float_scale == WeightRule::FloatScale::kReciprocal ? 4 : ElementBytes(type);
}

EncodedSizes SizesOf(const TensorScheme& scheme, const WeightRule& rule, Dtype type, int64_t rows,
                     int64_t columns) {
  EncodedSizes sizes;
  sizes.row_bytes = columns * CodeBits(scheme.code) / 8;
  sizes.scale_rows = Blocks(rows, scheme.block.rows);
  sizes.scale_columns = Blocks(columns, scheme.block.columns);
  sizes.scale_bytes = ScaleBytes(scheme, rule, type);
  if (!scheme.symmetric) sizes.zero_rows = Blocks(rows, kRowsOfZeroWord);
  return sizes;
}

void StoreFloat(Dtype type, float value, std::byte* to) {
  if (type == Dtype::kF32) {
    std::memcpy(to, &value, sizeof(value));
  } else {
    const uint16_t bits = type == Dtype::kBF16 ? ToBfloat16(value).bits : ToFloat16(value).bits;
    std::memcpy(to, &bits, sizeof(bits));
  }
}

void StoredToFloats(Dtype type, std::span<const std::byte> row, std::span<float> values) {
  if (type == Dtype::kF32) {
    std::memcpy(values.data(), row.data(), row.size());
    return;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, row.data() + i * sizeof(bits), sizeof(bits));
    values[i] = type == Dtype::kBF16 ? ToFloat(Bfloat16{bits}) : ToFloat(Float16{bits});
  }
}

// Of the range of a group. That of the range itself is the first, which ties keep.
std::span<const float> FactorsToTry(const TensorScheme& scheme) {
  static constexpr float kPowers[] = {1.0f, 0.5f, 2.0f};
  static constexpr float kFloats[] = {1.0f, 1.5f,   1.3f,  1.15f, 0.975f, 0.95f, 0.925f,
                                      0.9f, 0.875f, 0.85f, 0.8f,  0.75f,  0.7f};
  if (scheme.scale == ScaleFormat::kPowerOfTwo) return kPowers;
  return kFloats;
}

}  // namespace

std::optional<std::string> SizeProblem(const TensorScheme& scheme, int64_t rows, int64_t columns) {
  if (rows <= 0 || columns <= 0) return "it is empty";
  const bool whole_groups = scheme.scale != ScaleFormat::kFloat || CodeBits(scheme.code) < 8;
  const int64_t group = scheme.block.columns;
  if (whole_groups && group > 0 && columns % group != 0) {
    return fmt::format("{} columns are no multiple of {}", columns, group);
  }
  return std::nullopt;
}

// The largest magnitudes of the blocks of one row of blocks; without symmetry the least and
// greatest numbers.
struct WeightEncoder::Ranges {
  std::vector<float> maxima, low, high;
};

// The scales of the blocks of one row of blocks.
struct WeightEncoder::Scales {
  std::vector<float> stored;     // kFloat
  std::vector<std::byte> bytes;  // others
  std::vector<float> divisors;
  std::vector<float> zeros;  // without symmetry
};

WeightEncoder::WeightEncoder(std::string name, const TensorScheme& scheme, const WeightRule& rule,
                             Dtype type, int64_t rows, int64_t columns)
    : name_(std::move(name)),
      scheme_(scheme),
      rule_(rule),
      type_(type),
      rows_(rows),
      columns_(columns),
      group_(scheme.block.columns == 0 ? columns : scheme.block.columns),
      sizes_(SizesOf(scheme, rule, type, rows, columns)) {
  NARROW_CHECK(!SizeProblem(scheme, rows, columns));
  // These scales are f32, not of the weight's type, and so are their quotients.
  if (scheme.scale == ScaleFormat::kE4M3WithGlobal) rule_.code.quotient = Quotient::kExact;
  NARROW_CHECK(scheme.symmetric || (scheme.code == Code::kInt4 && scheme.block.rows == 1));
}

int64_t WeightEncoder::band_rows() const {
  if (!scheme_.symmetric) return kRowsOfZeroWord;
  return std::max<int64_t>(1, scheme_.block.rows);
}

void WeightEncoder::SearchScales(std::span<const float> weights) {
  NARROW_CHECK(scheme_.block.rows == 1);
  NARROW_CHECK(weights.empty() || std::ssize(weights) == columns_);
  search_weights_.assign(weights.begin(), weights.end());
}

bool WeightEncoder::NeedsMaximum() const {
  return scheme_.block.rows == 0 || scheme_.scale == ScaleFormat::kE4M3WithGlobal;
}

WeightEncoder::BandSizes WeightEncoder::SizesOfBand(int64_t first_row, int64_t count) const {
  const int64_t scale_row = sizes_.scale_columns * sizes_.scale_bytes;
  BandSizes band;
  band.codes = count * sizes_.row_bytes;
  band.codes_at = first_row * sizes_.row_bytes;
  if (scheme_.block.rows > 0) {
    band.scales = Blocks(count, scheme_.block.rows) * scale_row;
    band.scales_at = first_row / scheme_.block.rows * scale_row;
  } else if (first_row == 0) {
    band.scales = scale_row;
  }
  if (sizes_.zero_rows > 0) {
    const int64_t word_row = sizes_.scale_columns * static_cast<int64_t>(sizeof(uint32_t));
    band.zeros = Blocks(count, kRowsOfZeroWord) * word_row;
    band.zeros_at = first_row / kRowsOfZeroWord * word_row;
  }
  return band;
}

void WeightEncoder::FailNotFinite() const {
  Fail(ErrorCode::kNumeric,
       "{} holds NaN or infinity, which has no code; leave it as it is with "
       "--exclude_layers, or start from an undamaged checkpoint",
       name_);
}

float WeightEncoder::Maximum(std::span<const std::byte> weights) const {
  const int64_t row_bytes = columns_ * ElementBytes(type_);
  const int64_t count = static_cast<int64_t>(weights.size()) / row_bytes;
  std::vector<float> maxima(static_cast<std::size_t>(count));
  ParallelFor(count, [&](int64_t r) {
    FindGroupMaxima({type_, weights.data() + r * row_bytes, columns_}, columns_,
                    std::span(maxima).subspan(static_cast<std::size_t>(r), 1));
  });
  float largest = 0.0f;
  for (const float maximum : maxima) {
    if (!std::isfinite(maximum)) FailNotFinite();
    largest = std::max(largest, maximum);
  }
  return largest;
}

float WeightEncoder::GlobalScale(float maximum) const { return MakeGlobalScale(type_, maximum); }

WeightEncoder::Scales WeightEncoder::MakeScales(std::span<const std::byte> weights,
                                                float maximum) const {
  const int64_t row_bytes = columns_ * ElementBytes(type_);
  const auto groups = static_cast<std::size_t>(sizes_.scale_columns);
  Ranges ranges;
  ranges.maxima.resize(groups);
  std::vector<float> of_row(groups);
  for (int64_t at = 0; at < static_cast<int64_t>(weights.size()); at += row_bytes) {
    FindGroupMaxima({type_, weights.data() + at, columns_}, group_, of_row);
    for (std::size_t g = 0; g < groups; ++g) {
      if (!std::isfinite(of_row[g])) FailNotFinite();
      ranges.maxima[g] = std::max(ranges.maxima[g], of_row[g]);
    }
  }
  if (scheme_.block.rows == 0) ranges.maxima[0] = maximum;
  if (!scheme_.symmetric) {
    ranges.low.resize(groups);
    ranges.high.resize(groups);
    FindGroupRanges({type_, weights.data(), columns_}, group_, ranges.low, ranges.high);
  }
  return search_weights_.empty() ? ScalesOf(ranges, maximum, 1.0f)
                                 : Search(weights, ranges, maximum);
}

WeightEncoder::Scales WeightEncoder::ScalesOf(const Ranges& ranges, float maximum,
                                              float factor) const {
  const std::size_t groups = ranges.maxima.size();
  Scales scales;
  scales.divisors.resize(groups);
  std::vector<float> maxima = ranges.maxima;
  for (float& amax : maxima) amax *= factor;
  if (scheme_.scale == ScaleFormat::kE4M3WithGlobal) {
    scales.bytes.resize(groups);
    MakeTwoLevelScales(type_, GlobalScale(maximum), maxima, scales.bytes, scales.divisors);
  } else if (scheme_.scale == ScaleFormat::kPowerOfTwo) {
    scales.bytes.reserve(groups);
    for (std::size_t g = 0; g < groups; ++g) {
      const PowerOfTwoScale scale = MakePowerOfTwoScale(type_, scheme_.code, rule_, maxima[g]);
      scales.bytes.push_back(static_cast<std::byte>(scale.byte));
      scales.divisors[g] = scale.divisor;
    }
  } else if (!scheme_.symmetric) {
    for (std::size_t g = 0; g < groups; ++g) {
      const ZeroPointScale scale =
          MakeZeroPointScale(type_, factor * ranges.low[g], factor * ranges.high[g]);
      scales.stored.push_back(scale.scale);
      scales.divisors[g] = scale.scale;
      scales.zeros.push_back(scale.zero);
    }
  } else {
    for (std::size_t g = 0; g < groups; ++g) {
      const FloatScale scale = MakeFloatScale(type_, scheme_.code, rule_, maxima[g]);
      scales.stored.push_back(scale.stored);
      scales.divisors[g] = scale.divisor;
    }
  }
  return scales;
}

WeightEncoder::Scales WeightEncoder::Search(std::span<const std::byte> row, const Ranges& ranges,
                                            float maximum) const {
  const WeightRow stored = {type_, row.data(), columns_};
  std::vector<float> weights(static_cast<std::size_t>(columns_)), values(weights.size());
  StoredToFloats(type_, row, weights);
  std::vector<std::byte> codes(static_cast<std::size_t>(sizes_.row_bytes));
  std::vector<double> least(ranges.maxima.size(), std::numeric_limits<double>::infinity());
  Scales best;
  for (const float factor : FactorsToTry(scheme_)) {
    const Scales scales = ScalesOf(ranges, maximum, factor);
    EncodeRow(stored, scales, codes);
    DecodeRow(codes, {scales.divisors, group_}, scales.zeros, values);
    if (best.divisors.empty()) best = scales;
    for (std::size_t g = 0; g < least.size(); ++g) {
      const auto first = g * static_cast<std::size_t>(group_);
      double error = 0.0;
      for (std::size_t c = first;
           c < std::min(first + static_cast<std::size_t>(group_), weights.size()); ++c) {
        const double difference = weights[c] - values[c];
        error += search_weights_[c] * difference * difference;
      }
      if (!(error < least[g])) continue;
      least[g] = error;
      best.divisors[g] = scales.divisors[g];
      if (!best.bytes.empty()) best.bytes[g] = scales.bytes[g];
      if (!best.stored.empty()) best.stored[g] = scales.stored[g];
      if (!best.zeros.empty()) best.zeros[g] = scales.zeros[g];
    }
  }
  return best;
}

void WeightEncoder::StoreScales(const Scales& scales, std::span<std::byte> to) const {
  if (scales.stored.empty()) {
    std::ranges::copy(scales.bytes, to.begin());
    return;
  }
  const Dtype type = sizes_.scale_bytes == 4 ? Dtype::kF32 : type_;
  for (std::size_t g = 0; g < scales.stored.size(); ++g) {
    StoreFloat(type, scales.stored[g],
               to.data() + g * static_cast<std::size_t>(sizes_.scale_bytes));
  }
}

void WeightEncoder::EncodeRow(const WeightRow& row, const Scales& scales,
                              std::span<std::byte> codes) const {
  const GroupScales groups{scales.divisors, group_};
  switch (scheme_.code) {
    case Code::kE4M3:
      return EncodeE4M3(row, groups, rule_.code, codes);
    case Code::kE2M1:
      return EncodeE2M1(row, groups, rule_.code, codes);
    case Code::kInt8:
      return EncodeInt8(row, groups, rule_.code.quotient, codes);
    case Code::kInt4:
      return EncodeInt4(row, groups, scales.zeros, rule_.code.quotient, codes);
  }
}

void WeightEncoder::DecodeRow(std::span<const std::byte> codes, const GroupScales& scales,
                              std::span<const float> zeros, std::span<float> values) const {
  switch (scheme_.code) {
    case Code::kE4M3:
      return DecodeE4M3(codes, scales, values);
    case Code::kE2M1:
      return DecodeE2M1(codes, scales, values);
    case Code::kInt8:
      return DecodeInt8(codes, scales, values);
    case Code::kInt4:
      return DecodeInt4(codes, scales, zeros, values);
  }
}

CodeGrid WeightEncoder::EmptyGrid(int64_t count) const {
  CodeGrid grid;
  grid.block_rows = scheme_.block.rows == 0 ? count : scheme_.block.rows;
  grid.group = group_;
  grid.groups = sizes_.scale_columns;
  const auto size = static_cast<std::size_t>(DivideRoundUp(count, grid.block_rows) * grid.groups);
  grid.scales.resize(size);
  if (scheme_.block.columns > 0) grid.inner.resize(size);
  if (!scheme_.symmetric) grid.zeros.resize(size);
  return grid;
}

void WeightEncoder::FillGrid(const Scales& scales, int64_t grid_row, CodeGrid& grid) const {
  const int64_t at = grid_row * grid.groups;
  const std::vector<float>& values = scales.stored.empty() ? scales.divisors : scales.stored;
  std::ranges::copy(values, grid.scales.begin() + at);
  if (!grid.zeros.empty()) std::ranges::copy(scales.zeros, grid.zeros.begin() + at);
  if (grid.inner.empty()) return;
  if (scheme_.scale != ScaleFormat::kE4M3WithGlobal) {
    std::ranges::copy(values, grid.inner.begin() + at);
    return;
  }
  std::ranges::transform(scales.bytes, grid.inner.begin() + at, [](std::byte byte) {
    return ToFloat(Float8E4M3{std::to_integer<uint8_t>(byte)});
  });
}

void WeightEncoder::DecodeNumbers(std::span<const std::byte> codes, const CodeGrid& grid,
                                  MatrixView<float> numbers) const {
  const auto row_bytes = static_cast<std::size_t>(sizes_.row_bytes);
  const auto groups = static_cast<std::size_t>(grid.groups);
  constexpr float kOne = 1.0f;
  ParallelFor(numbers.rows, [&](int64_t r) {
    const std::size_t at = static_cast<std::size_t>(r / grid.block_rows) * groups;
    const auto part = [&](const std::vector<float>& of) {
      return of.empty() ? std::span<const float>() : std::span(of).subspan(at, groups);
    };
    const GroupScales scales = grid.inner.empty()
                                   ? GroupScales{std::span(&kOne, 1), numbers.columns}
                                   : GroupScales{part(grid.inner), grid.group};
    DecodeRow(codes.subspan(static_cast<std::size_t>(r) * row_bytes, row_bytes), scales,
              part(grid.zeros), numbers.RowSpan(r));
  });
}

void WeightEncoder::EncodeNumbers(MatrixView<const float> numbers,
                                  std::span<std::byte> codes) const {
  const auto row_bytes = static_cast<std::size_t>(sizes_.row_bytes);
  constexpr float kOne = 1.0f;
  const GroupScales scales{std::span(&kOne, 1), numbers.columns};
  const CodeRule rule = {Quotient::kExact, rule_.code.zero};
  ParallelFor(numbers.rows, [&](int64_t r) {
    const WeightRow row = {Dtype::kF32, reinterpret_cast<const std::byte*>(numbers.Row(r)),
                           numbers.columns};
    const auto to = codes.subspan(static_cast<std::size_t>(r) * row_bytes, row_bytes);
    switch (scheme_.code) {
      case Code::kE4M3:
        return EncodeE4M3(row, scales, rule, to);
      case Code::kE2M1:
        return EncodeE2M1(row, scales, rule, to);
      case Code::kInt8:
        return EncodeInt8(row, scales, Quotient::kExact, to);
      case Code::kInt4:
        return EncodeInt4(row, scales, {}, Quotient::kExact, to);
    }
  });
}

// One row of blocks, or as many rows as a word of zero points takes.
void WeightEncoder::EncodeBlockRow(int64_t first_row, std::span<const std::byte> weights,
                                   float maximum, const Band& band, CodeGrid* grid,
                                   int64_t grid_row) const {
  const int64_t row_bytes = columns_ * ElementBytes(type_);
  const int64_t scale_row = sizes_.scale_columns * sizes_.scale_bytes;
  const int64_t count = static_cast<int64_t>(weights.size()) / row_bytes;
  const int64_t block = scheme_.block.rows == 1 ? 1 : count;
  std::vector<uint32_t> words(scheme_.symmetric ? 0
                                                : static_cast<std::size_t>(sizes_.scale_columns));
  for (int64_t r = 0; r < count; r += block) {
    const auto rows = weights.subspan(static_cast<std::size_t>(r * row_bytes),
                                      static_cast<std::size_t>(block * row_bytes));
    const Scales scales = MakeScales(rows, maximum);
    if (scheme_.block.rows != 0 || first_row == 0) {
      StoreScales(scales, band.scales.subspan(static_cast<std::size_t>(r / block * scale_row)));
    }
    for (int64_t i = 0; i < block; ++i) {
      const WeightRow row{type_, rows.data() + i * row_bytes, columns_};
      const auto codes = band.codes.subspan(static_cast<std::size_t>((r + i) * sizes_.row_bytes),
                                            static_cast<std::size_t>(sizes_.row_bytes));
      EncodeRow(row, scales, codes);
    }
    if (grid != nullptr) FillGrid(scales, grid_row + r / block, *grid);
    for (std::size_t g = 0; g < words.size(); ++g) {
      words[g] |= static_cast<uint32_t>(scales.zeros[g] + 8.0f) << (4 * r);
    }
  }
  std::ranges::copy(std::as_bytes(std::span(words)), band.zeros.begin());
}

void WeightEncoder::Encode(int64_t first_row, std::span<const std::byte> weights, float maximum,
                           const Band& band, CodeGrid* grid) const {
  const int64_t row_bytes = columns_ * ElementBytes(type_);
  const int64_t count = static_cast<int64_t>(weights.size()) / row_bytes;
  if (grid != nullptr) *grid = EmptyGrid(count);
  NARROW_CHECK(first_row % band_rows() == 0 && first_row + count <= rows_);
  NARROW_CHECK(static_cast<int64_t>(band.codes.size()) == count * sizes_.row_bytes);
  // Rows that go together, and as many of these as are worth a thread's while.
  const int64_t step = band_rows();
  const int64_t unit = std::max<int64_t>(1, kUnitBytes / (step * row_bytes)) * step;
  const auto part = [](std::span<std::byte> bytes, int64_t first, int64_t size) {
    return size == 0
               ? bytes.first(0)
               : bytes.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(size));
  };
  const BandSizes all = SizesOfBand(first_row, count);
  NARROW_CHECK(static_cast<int64_t>(band.scales.size()) == all.scales);
  NARROW_CHECK(static_cast<int64_t>(band.zeros.size()) == all.zeros);
  ParallelFor(DivideRoundUp(count, unit), [&](int64_t u) {
    for (int64_t r = u * unit; r < std::min((u + 1) * unit, count); r += step) {
      const int64_t n = std::min(step, count - r);
      const BandSizes own = SizesOfBand(first_row + r, n);
      EncodeBlockRow(first_row + r,
                     weights.subspan(static_cast<std::size_t>(r * row_bytes),
                                     static_cast<std::size_t>(n * row_bytes)),
                     maximum,
                     {part(band.codes, own.codes_at - all.codes_at, own.codes),
                      part(band.scales, own.scales_at - all.scales_at, own.scales),
                      part(band.zeros, own.zeros_at - all.zeros_at, own.zeros)},
                     // A tensor's one scale is written once.
                     scheme_.block.rows == 0 && r > 0 ? nullptr : grid,
                     r / std::max<int64_t>(1, scheme_.block.rows));
    }
  });
}

}  // namespace narrow
