#include "stream/head_packer.h"

#include <algorithm>
#include <utility>

#include "evaluation/token_comparison.h"
#include "model/stored_layer.h"

namespace narrow {
namespace {

int64_t PanelRows(const DecoderConfig& config) {
  return std::min(kVocabularySlice, config.vocabulary);
}

}  // namespace

int64_t PackedHeadBytes(const DecoderConfig& config, int64_t rows, ComputeType compute) {
  return rows * config.hidden * OperandBytes(compute);
}

int64_t HeadPanelBytes(const DecoderConfig& config, ComputeType compute) {
  return PackedHeadBytes(config, PanelRows(config), compute);
}

HeadPacker::HeadPacker(const DecoderConfig& config, ComputeType compute, Dtype stored, int64_t rows)
    : hidden_(config.hidden),
      stored_(stored),
      rows_(rows),
      packed_(compute, rows, config.hidden, PanelRows(config)),
      panel_(memory_.Reserve(compute, packed_.panel_rows(), config.hidden)) {}

void HeadPacker::Add(std::span<const std::byte> rows) {
  const auto row_bytes = static_cast<std::size_t>(hidden_ * ElementBytes(stored_));
  for (; !rows.empty(); rows = rows.subspan(row_bytes)) {
    const int64_t in_panel = added_ % packed_.panel_rows();
    ConvertRow(stored_, rows.first(row_bytes), panel_.RowBlock(in_panel, 1));
    ++added_;
    if (in_panel + 1 == packed_.panel_rows() || added_ == rows_) {
      packed_.PackPanel((added_ - 1) / packed_.panel_rows(), panel_.RowBlock(0, in_panel + 1));
    }
  }
}

PackedWeights HeadPacker::Take() && {
  NARROW_CHECK(added_ == rows_);
  return std::move(packed_);
}

}  // namespace narrow
