#include "quantization/calibration.h"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "base/checked_math.h"
#include "base/ranks.h"
#include "device/operations.h"

namespace narrow {
namespace {

// Shows the rows that every rank has collected, in the order of the text.
template <typename Show>
void ShowAll(ConstOperands own, const Show& show) {
  const int64_t row_bytes = own.columns * OperandBytes(own.type);
  JobRanks().InTurn(std::span(own.data, static_cast<std::size_t>(own.rows * row_bytes)),
                    [&](int, std::span<const std::byte> bytes) {
                      const int64_t rows = std::ssize(bytes) / row_bytes;
                      show(ConstOperands(bytes.data(), own.type, rows, own.columns));
                    });
}

}  // namespace

LayerCalibration::LayerCalibration(const LayerSpec& spec, LayerHessians hessians,
                                   BasisStatistics basis)
    : hessians_(std::move(hessians)), basis_(std::move(basis)) {
  for (const GroupSpec& group : GroupsOf(spec)) {
    const auto g = static_cast<std::size_t>(group.id);
    inputs_[g].wanted = hessians_[g].has_value();
    inputs_[g].columns = group.columns;
    inputs_[g].maxima.Reset(group.columns);
  }
  queries_.wanted = keys_.wanted = basis_.keys.has_value();
  queries_.stride = keys_.stride = kKeyBasisTokenStride;
  const CacheWidths widths = CacheWidthsOf(spec);
  queries_.columns = widths.queries;
  values_.wanted = basis_.values.has_value();
  keys_.columns = widths.keys;
  values_.columns = widths.values;
  queries_.maxima.Reset(queries_.columns);
  keys_.maxima.Reset(keys_.columns);
  values_.maxima.Reset(values_.columns);
}

void LayerCalibration::BeginBatch(ComputeType type, int64_t first_row, int64_t rows) {
  first_row_ = first_row;
  rows_ = rows;
  std::vector<Observed*> wanted;
  for (Observed& input : inputs_) wanted.push_back(&input);
  wanted.insert(wanted.end(), {&queries_, &keys_, &values_});
  std::erase_if(wanted, [](const Observed* tensor) { return !tensor->wanted; });
  int64_t bytes = 0;
  const auto bytes_of = [&](const Observed& tensor) {
    const int64_t taken = DivideRoundUp(rows, tensor.stride);
    return RoundUp(taken * tensor.columns * OperandBytes(type),
                   static_cast<int64_t>(AlignedBuffer<std::byte>::kAlignment));
  };
  for (const Observed* tensor : wanted) bytes += bytes_of(*tensor);
  std::optional<std::span<std::byte>> shown = JobRanks().ShownMemory(bytes);
  for (Observed* tensor : wanted) {
    const int64_t taken = DivideRoundUp(rows, tensor->stride);
    if (!shown) {
      tensor->rows = tensor->memory.Reserve(type, taken, tensor->columns);
      continue;
    }
    tensor->rows = {shown->data(), type, taken, tensor->columns};
    *shown = shown->subspan(static_cast<std::size_t>(bytes_of(*tensor)));
  }
}

void LayerCalibration::EndRound() {
  for (std::size_t group = 0; group < kLinearGroupCount; ++group) {
    std::optional<HessianAccumulator>& hessian = hessians_[group];
    if (!hessian) continue;
    ShowAll(Collected(inputs_[group]), [&](ConstOperands rows) { hessian->Add(rows); });
  }
  if (basis_.keys) {
    ShowAll(Collected(queries_), [&](ConstOperands rows) { basis_.keys->AddQueries(rows); });
    ShowAll(Collected(keys_), [&](ConstOperands rows) { basis_.keys->AddKeys(rows); });
  }
  if (basis_.values) {
    ShowAll(Collected(values_), [&](ConstOperands rows) { basis_.values->Add(rows); });
  }
}

void LayerCalibration::ReleaseBatch() {
  for (Observed& input : inputs_) input.memory = {};
  for (Observed* tensor : {&queries_, &keys_, &values_}) tensor->memory = {};
}

int64_t LayerCalibration::TakenBefore(int64_t row, const Observed& tensor) const {
  return DivideRoundUp(first_row_ + row, tensor.stride) - DivideRoundUp(first_row_, tensor.stride);
}

void LayerCalibration::Collect(int64_t first_row, ConstOperands rows, Observed& tensor) {
  if (!tensor.wanted) return;
  for (int64_t row = 0; row < rows.rows; ++row) {
    if ((first_row_ + first_row + row) % tensor.stride != 0) continue;
    Copy(rows.RowBlock(row, 1), tensor.rows.RowBlock(TakenBefore(first_row + row, tensor), 1));
  }
}

ConstOperands LayerCalibration::Collected(const Observed& tensor) const {
  return tensor.rows.RowBlock(0, TakenBefore(rows_, tensor));
}

void LayerCalibration::Observe(int64_t first_row, ConstOperands rows, Observed& tensor) {
  tensor.maxima.Include(rows);
  Collect(first_row, rows, tensor);
}

LayerStatistics LayerCalibration::Take(const LayerSpec& spec) {
  for (Observed& input : inputs_) input.maxima.Share();
  for (Observed* tensor : {&queries_, &keys_, &values_}) tensor->maxima.Share();
  for (std::optional<HessianAccumulator>& hessian : hessians_) {
    if (hessian) hessian->Share();
  }
  if (basis_.keys) basis_.keys->Share();
  if (basis_.values) basis_.values->Share();
  JobRanks().ReleaseShown();
  LayerRanges ranges;
  for (const GroupSpec& group : GroupsOf(spec)) {
    const auto g = static_cast<std::size_t>(group.id);
    ranges.inputs[g] = inputs_[g].maxima.Values("the input of " + group.linears.front().module);
  }
  ranges.queries = queries_.maxima.Values("Q of " + spec.attention_module);
  ranges.keys = keys_.maxima.Values("K of " + spec.attention_module);
  ranges.values = values_.maxima.Values("V of " + spec.attention_module);
  return {std::move(ranges), std::move(hessians_), std::move(basis_)};
}

int64_t CollectedBytes(const LayerSpec& spec, std::span<const GroupSpec> groups, bool basis,
                       int64_t rows, ComputeType compute) {
  int64_t columns = 0;
  for (const GroupSpec& group : groups) columns += group.columns;
  if (basis) {
    const AttentionHeads& heads = spec.attention.heads;
    const int64_t scored = heads.query_width() + heads.key_value_width();
    columns += heads.key_value_width() + DivideRoundUp(scored, kKeyBasisTokenStride);
  }
  return rows * columns * OperandBytes(compute);
}

}  // namespace narrow
