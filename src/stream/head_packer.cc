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

template <typename T>
HeadPacker<T>::HeadPacker(const DecoderConfig& config, Dtype stored, int64_t rows)
    : hidden_(config.hidden),
      stored_(stored),
      rows_(rows),
      packed_(rows, config.hidden, PanelRows(config)),
      panel_(packed_.panel_rows() * config.hidden) {}

template <typename T>
void HeadPacker<T>::Add(std::span<const std::byte> rows) {
  const auto row_bytes = static_cast<std::size_t>(hidden_ * ElementBytes(stored_));
  for (; !rows.empty(); rows = rows.subspan(row_bytes)) {
    const int64_t in_panel = added_ % packed_.panel_rows();
    ConvertRow(stored_, rows.first(row_bytes),
               std::span<T>(panel_.data() + in_panel * hidden_, static_cast<std::size_t>(hidden_)));
    ++added_;
    if (in_panel + 1 == packed_.panel_rows() || added_ == rows_) {
      packed_.PackPanel((added_ - 1) / packed_.panel_rows(),
                        MatrixView<const T>(panel_.data(), in_panel + 1, hidden_));
    }
  }
}

template <typename T>
PackedMatrix<T> HeadPacker<T>::Take() && {
  NARROW_CHECK(added_ == rows_);
  return std::move(packed_);
}

template class HeadPacker<float>;
template class HeadPacker<Bfloat16>;

}  // namespace narrow
