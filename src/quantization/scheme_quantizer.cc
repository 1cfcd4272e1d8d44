#include "quantization/scheme_quantizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/parallel.h"
#include "device/compensation/rounding.h"
#include "schemes/block_scales.h"
#include "schemes/weight_encoder.h"

namespace narrow {
namespace {

std::span<const std::byte> BytesOf(const auto& value) {
  return std::as_bytes(std::span(&value, 1));
}

bool HasGlobal(const TensorScheme& scheme) { return scheme.scale == ScaleFormat::kE4M3WithGlobal; }

RoundingGrid RoundingGridOf(const TensorScheme& scheme, const CodeGrid& grid) {
  RoundingGrid rounding;
  switch (scheme.code) {
    case Code::kE4M3:
      rounding.numbers = {GridRule::Numbers::kE4M3};
      break;
    case Code::kE2M1:
      rounding.numbers = {GridRule::Numbers::kE2M1};
      break;
    case Code::kInt8:
      rounding.numbers = {GridRule::Numbers::kIntegers, -128.0f, 127.0f};
      break;
    case Code::kInt4:
      rounding.numbers = {GridRule::Numbers::kIntegers, -8.0f, 7.0f};
      break;
  }
  rounding.block_rows = grid.block_rows;
  rounding.group = grid.group;
  rounding.groups = grid.groups;
  rounding.scales = grid.scales;
  rounding.zeros = grid.zeros;
  return rounding;
}

// One group of linears while it is quantized.
class Group {
 public:
  Group(LoadedLayer& layer, LinearGroup group, const SchemeWork& work, const PartSink& sink)
      : layer_(layer),
        group_(group),
        linears_(layer.Linears(group)),
        work_(work),
        scheme_(work.scheme.weight),
        sink_(sink) {
    WeightRule rule = work.format->rule(work.scheme);
    if (work.exact_quotient && rule.code.quotient == Quotient::kStored) {
      rule.code.quotient = Quotient::kExact;
    }
    for (const LoadedLinear& linear : linears_) {
      // Serving engines run the group as one matrix, which has one global scale.
      shared_amax_ = std::max(shared_amax_, linear.weight_amax);
      encoders_.emplace_back(linear.spec.weight(), scheme_, rule, linear.stored, linear.spec.rows,
                             linear.spec.columns);
      if (CodeBits(scheme_.code) == 4) encoders_.back().SearchScales(work.column_weights);
      facts_.push_back({.module = linear.spec.module,
                        .weight_amax = linear.weight_amax,
                        .elements = linear.spec.rows * linear.spec.columns});
    }
    scales_.input =
        CalibratedInput(work.scheme, *work.format, linears_.front().stored, work.input_amax);
  }

  std::vector<SchemeFacts> Run() {
    layer_.Quantize(group_, scales_, [&](int64_t first_row, MatrixView<float> rows) {
      ForEachLinearAmong(
          linears_, first_row, rows.rows, [&](std::size_t i, int64_t from, int64_t count) {
            RoundRows(i, first_row + from - linears_[i].first_row, rows.RowBlock(from, count));
          });
    });
    for (std::size_t i = 0; i < linears_.size(); ++i) Finish(i);
    return std::move(facts_);
  }

 private:
  float Maximum(std::size_t i) const {
    return HasGlobal(scheme_) ? shared_amax_ : linears_[i].weight_amax;
  }

  // Rows of one linear, in place.
  void RoundRows(std::size_t i, int64_t first_row, MatrixView<float> rows) {
    const WeightEncoder& encoder = encoders_[i];
    const Dtype type = linears_[i].stored;
    const auto row_bytes = static_cast<std::size_t>(rows.columns * ElementBytes(type));
    stored_.resize(row_bytes * static_cast<std::size_t>(rows.rows));
    ParallelFor(rows.rows, [&](int64_t r) {
      StoreRow(type, rows.RowSpan(r),
               std::span(stored_).subspan(static_cast<std::size_t>(r) * row_bytes, row_bytes));
    });
    const WeightEncoder::BandSizes sizes = encoder.SizesOfBand(first_row, rows.rows);
    codes_.resize(static_cast<std::size_t>(sizes.codes));
    scale_bytes_.resize(static_cast<std::size_t>(sizes.scales));
    zero_bytes_.resize(static_cast<std::size_t>(sizes.zeros));
    const WeightEncoder::Band band = {codes_, scale_bytes_, zero_bytes_};
    CodeGrid grid;
    encoder.Encode(first_row, stored_, Maximum(i), band, &grid);
    if (work_.factor != nullptr) Compensate(i, encoder, grid, rows);
    encoder.DecodeNumbers(codes_, grid, rows);
    KeepRowScales(i, first_row, grid, rows.rows);
    if (!sink_) return;
    const LinearSpec& spec = linears_[i].spec;
    sink_(spec, LinearPart::kCodes, sizes.codes_at, codes_);
    if (sizes.scales > 0) sink_(spec, LinearPart::kScale, sizes.scales_at, scale_bytes_);
    if (sizes.zeros > 0) sink_(spec, LinearPart::kZeroPoint, sizes.zeros_at, zero_bytes_);
  }

  void Compensate(std::size_t i, const WeightEncoder& encoder, const CodeGrid& grid,
                  MatrixView<float> rows) {
    const CompensatedRounding done =
        RoundCompensated(*work_.factor, rows, RoundingGridOf(scheme_, grid), rows);
    facts_[i].output_error += done.error;
    facts_[i].nearest_output_error += done.nearest_error;
    encoder.EncodeNumbers(rows, codes_);
  }

  // What products are multiplied by: the scale of a row, the global one, or nothing.
  void KeepRowScales(std::size_t i, int64_t first_row, const CodeGrid& grid, int64_t count) {
    const bool by_row = scheme_.block == BlockShape{1, 0};
    if (scales_.weights.empty()) {
      std::size_t size = linears_.size();
      if (by_row) {
        const LoadedLinear& last = linears_.back();
        size = static_cast<std::size_t>(last.first_row + last.spec.rows);
      }
      scales_.weights.assign(size, 1.0f);
    }
    if (by_row) {
      std::copy_n(grid.scales.begin(), count,
                  scales_.weights.begin() + linears_[i].first_row + first_row);
    } else if (scheme_.block == BlockShape{0, 0}) {
      scales_.weights[i] = facts_[i].weight_scale = grid.scales.front();
    } else if (HasGlobal(scheme_)) {
      scales_.weights[i] = 1.0f / encoders_[i].GlobalScale(shared_amax_);
    }
  }

  void Finish(std::size_t i) {
    const LinearInput& input = scales_.input;
    if (input.values.scale > 0.0f) facts_[i].input_scale = input.values.scale;
    if (input.values.global > 0.0f) facts_[i].input_scale = 1.0f / input.values.global;
    if (!sink_) return;
    const LinearSpec& spec = linears_[i].spec;
    const std::array<int64_t, 2> shape = {spec.rows, spec.columns};
    const float global = encoders_[i].GlobalScale(shared_amax_);
    const SourceLinear source = {spec.module, spec.rows, spec.columns, linears_[i].stored};
    for (const PartTensor& part : work_.format->tensors(source, work_.scheme)) {
      switch (part.part) {
        case LinearPart::kShape:
          sink_(spec, part.part, 0, BytesOf(shape));
          break;
        case LinearPart::kGlobalScale:
          sink_(spec, part.part, 0, BytesOf(global));
          break;
        case LinearPart::kInputGlobalScale:
          sink_(spec, part.part, 0, BytesOf(input.values.global));
          break;
        case LinearPart::kInputScale: {
          std::vector<std::byte> bytes(static_cast<std::size_t>(part.tensor.bytes()));
          StoreRow(part.tensor.dtype, std::span(&input.values.scale, 1), bytes);
          sink_(spec, part.part, 0, bytes);
          break;
        }
        case LinearPart::kCodes:
        case LinearPart::kScale:
        case LinearPart::kZeroPoint:
          break;
      }
    }
  }

  LoadedLayer& layer_;
  LinearGroup group_;
  const std::vector<LoadedLinear>& linears_;
  const SchemeWork& work_;
  const TensorScheme& scheme_;
  const PartSink& sink_;
  float shared_amax_ = 0.0f;
  std::vector<WeightEncoder> encoders_;
  LinearScales scales_;
  std::vector<SchemeFacts> facts_;
  std::vector<std::byte> stored_, codes_, scale_bytes_, zero_bytes_;
};

}  // namespace

LinearInput CalibratedInput(const LinearScheme& scheme, const SchemeFormat& format, Dtype type,
                            float amax) {
  LinearInput input = {scheme.input, {}};
  if (!scheme.input) return input;
  if (HasGlobal(*scheme.input)) {
    input.values.global = MakeGlobalScale(type, amax);
  } else if (scheme.input->timing == Timing::kStatic) {
    input.values.scale = MakeFloatScale(type, scheme.input->code, format.rule(scheme), amax).stored;
  }
  return input;
}

int64_t SchemeRewritingBytes(const LayerSpec& spec) {
  int64_t largest = 0;
  for (const GroupSpec& group : GroupsOf(spec)) largest = std::max(largest, group.elements());
  // Two or four bytes a number, a code, and of groups of 16 two scales in f32.
  constexpr int64_t kBytes = 4 + 1 + 1;
  return kBytes * std::min(largest, kRewriteBytes / static_cast<int64_t>(sizeof(float)));
}

std::vector<SchemeFacts> QuantizeByScheme(LoadedLayer& layer, LinearGroup group,
                                          const SchemeWork& work, const PartSink& sink) {
  return Group(layer, group, work, sink).Run();
}

}  // namespace narrow
