#include "kernels/matmul.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "base/checked_math.h"
#include "base/parallel.h"
#include "kernels/even_rows.h"
#include "kernels/onednn_product.h"

namespace narrow {
namespace {

// The output of a panel while it is one of several, of the thread.
template <typename Out>
MatrixView<Out> PanelOutput(int64_t m, int64_t panel_rows) {
  thread_local AlignedBuffer<Out> buffer;
  if (buffer.size() < m * panel_rows) buffer = AlignedBuffer<Out>(m * panel_rows);
  return {buffer.data(), m, panel_rows};
}

// out = product * scales + bias for each column (null: no bias), or out += that.
void Finish(MatrixView<const float> product, const float* scales, const float* bias, bool add,
            MatrixView<float> out) {
  for (int64_t row = 0; row < out.rows; ++row) {
    const float* y = product.Row(row);
    float* to = out.Row(row);
    for (int64_t i = 0; i < out.columns; ++i) {
      const float value = y[i] * scales[i] + (bias != nullptr ? bias[i] : 0.0f);
      to[i] = add ? to[i] + value : value;
    }
  }
}

// The row count the packed layout is chosen for; any other row count uses the same layout.
constexpr int64_t kCanonicalRows = 512;
constexpr int64_t kPanelRowMultiple = 128;  // whole heads
constexpr int64_t kBufferedRows = 256;      // of the output of a panel that is one of several
constexpr int64_t kReorderRows = 64;        // of a panel, at least, per thread that packs it

int64_t DefaultPanelRows(int64_t rows, int64_t columns, int64_t element_bytes) {
  const int64_t fitting = kPanelBytes / (columns * element_bytes) / kPanelRowMultiple;
  return std::min(rows, std::max<int64_t>(1, fitting) * kPanelRowMultiple);
}

}  // namespace

template <typename T>
struct PackedMatrix<T>::Implementation {
  // Everything a product's primitive depends on besides the matrix.
  using Key = std::tuple<int64_t /*m*/, int64_t /*strip rows*/, int64_t /*x stride*/,
                         int64_t /*out stride*/, int /*out type*/, Epilogue>;

  int64_t rows = 0;
  int64_t columns = 0;
  int64_t panel_rows = 0;
  int64_t strip_rows = 0;   // what a panel is packed and multiplied in: itself, or kStripRows
  int64_t strip_bytes = 0;  // of a full one
  std::vector<AlignedBuffer<std::byte>> panels;
  AlignedBuffer<float> scales;  // both of every row, or empty
  AlignedBuffer<float> bias;
  std::map<int64_t, memory::desc> layouts;  // by row count: full strips and last ones
  std::mutex mutex;
  std::map<Key, Product> products;

  struct Strip {
    int64_t first_row = 0;  // of the matrix
    int64_t rows = 0;
    std::byte* data = nullptr;
  };

  int64_t RowsOf(int64_t panel) const { return std::min(panel_rows, rows - panel * panel_rows); }

  // The strip of a panel that begins with its row `first`.
  Strip StripOf(int64_t panel, int64_t first) {
    return {panel * panel_rows + first, std::min(strip_rows, RowsOf(panel) - first),
            panels[panel].data() + first / strip_rows * strip_bytes};
  }

  void Allocate() {
    const auto bytes = [&](int64_t count) {
      return static_cast<int64_t>(Layout(count).get_size());
    };
    strip_bytes = bytes(strip_rows);
    for (int64_t panel = 0; panel < DivideRoundUp(rows, panel_rows); ++panel) {
      const int64_t before_last = (RowsOf(panel) - 1) / strip_rows;
      panels.emplace_back(before_last * strip_bytes +
                          bytes(RowsOf(panel) - before_last * strip_rows));
    }
  }

  const memory::desc& Layout(int64_t count) {
    const auto found = layouts.find(count);
    if (found != layouts.end()) return found->second;
    const SingleThreadScope single_thread;
    const memory::desc any({columns, count}, kType<T>, memory::format_tag::any);
    const dnnl::matmul::desc desc(PlainDesc(kCanonicalRows, columns, columns, kType<T>), any,
                                  PlainDesc(kCanonicalRows, count, count, kType<T>));
    const dnnl::matmul::primitive_desc primitive_desc(desc, OneDnnEngine());
    return layouts.emplace(count, primitive_desc.weights_desc()).first->second;
  }

  template <typename Out>
  const Product& Find(int64_t m, int64_t count, int64_t x_stride, int64_t out_stride,
                      Epilogue epilogue) {
    const Key key = {m, count, x_stride, out_stride, static_cast<int>(kType<Out>), epilogue};
    const std::lock_guard lock(mutex);
    const auto found = products.find(key);
    if (found != products.end()) return found->second;
    return products
        .emplace(key, CreateProduct(PlainDesc(m, columns, x_stride, kType<T>), Layout(count),
                                    PlainDesc(m, count, out_stride, kType<Out>), epilogue))
        .first->second;
  }

  template <typename Out>
  void Run(int64_t panel, MatrixView<const T> x, MatrixView<Out> out, bool add) {
    NARROW_CHECK(x.columns == columns && out.columns == RowsOf(panel) && out.rows == x.rows);
    if (x.rows == 0) return;
    const Epilogue epilogue = {scales.size() > 0, bias.size() > 0, add};
    if constexpr (std::is_same_v<T, float> && std::is_same_v<Out, float>) {
      if (NeedsEvenRows<T>()) return RunStrips(panel, x, out, epilogue);
    }
    RunPanel(StripOf(panel, 0), x, out, epilogue);
  }

  // Without AVX-512 oneDNN 2.6 has no fast product with scales: they come after it.
  template <typename Out>
  void RunStrips(int64_t panel, MatrixView<const Out> x, MatrixView<Out> out, Epilogue epilogue) {
    for (int64_t first = 0; first < out.columns; first += strip_rows) {
      const Strip strip = StripOf(panel, first);
      MultiplyEvenRows(x, out.ColumnBlock(first, strip.rows),
                       [&](MatrixView<const Out> part, MatrixView<Out> product) {
                         if (!epilogue.scales) return RunStrip(strip, part, product, epilogue);
                         const MatrixView<Out> dense = PanelOutput<Out>(part.rows, strip.rows);
                         RunStrip(strip, part, dense, {});
                         Finish(dense, scales.data() + strip.first_row,
                                epilogue.bias ? bias.data() + strip.first_row : nullptr,
                                epilogue.add, product);
                       });
    }
  }

  // With AVX-512 oneDNN has fast products with packed weights for outputs without gaps between the
  // rows only: a panel that is one of several goes through a buffer.
  template <typename Out>
  void RunPanel(const Strip& panel, MatrixView<const T> x, MatrixView<Out> out, Epilogue epilogue) {
    if (out.stride == out.columns) return RunStrip(panel, x, out, epilogue);
    for (int64_t first = 0; first < x.rows; first += kBufferedRows) {
      const int64_t count = std::min(kBufferedRows, x.rows - first);
      const MatrixView<Out> part = out.RowBlock(first, count);
      const MatrixView<Out> dense = PanelOutput<Out>(count, out.columns);
      if (epilogue.add) CopyRows<Out>(part, dense);
      RunStrip(panel, x.RowBlock(first, count), dense, epilogue);
      CopyRows<Out>(dense, part);
    }
  }

  template <typename Out>
  void RunStrip(const Strip& strip, MatrixView<const T> x, MatrixView<Out> out, Epilogue epilogue) {
    try {
      const Product& product = Find<Out>(x.rows, strip.rows, x.stride, out.stride, epilogue);
      const auto from = [&](const AlignedBuffer<float>& values) {
        return values.size() == 0 ? nullptr : values.data() + strip.first_row;
      };
      Execute(product, x.data, strip.data, from(scales), from(bias), out.data);
    } catch (const dnnl::error& error) {
      FailOneDnn(error);
    }
  }

  // Between a panel and its plain rows. `packing` or unpacking.
  void Reorder(int64_t panel, bool packing, const T* plain, int64_t stride) {
    for (int64_t first = 0; first < RowsOf(panel); first += strip_rows) {
      ReorderStrip(StripOf(panel, first), packing, plain + first * stride, stride);
    }
  }

  // A part of the rows on each thread.
  void ReorderStrip(const Strip& strip, bool packing, const T* plain, int64_t stride) {
    try {
      const memory::desc layout = Layout(strip.rows);
      const memory::desc rows_desc = TransposedDesc(strip.rows, columns, stride, kType<T>);
      const int64_t part =
          RoundUp(std::max(kReorderRows, DivideRoundUp(strip.rows, ThreadCount())), kReorderRows);
      ParallelFor(DivideRoundUp(strip.rows, part), [&](int64_t i) {
        const int64_t first = i * part;
        const memory::dims size = {columns, std::min(part, strip.rows - first)};
        memory inside(layout.submemory_desc(size, {0, first}), OneDnnEngine(), strip.data);
        memory outside(rows_desc.submemory_desc(size, {0, first}), OneDnnEngine(),
                       const_cast<T*>(plain));
        memory& from = packing ? outside : inside;
        memory& to = packing ? inside : outside;
        dnnl::reorder(from, to).execute(OneDnnStream(), from, to);
      });
    } catch (const dnnl::error& error) {
      FailOneDnn(error);
    }
  }
};

template <typename T>
PackedMatrix<T>::PackedMatrix() = default;

template <typename T>
PackedMatrix<T>::PackedMatrix(int64_t rows, int64_t columns, int64_t panel_rows)
    : implementation_(std::make_unique<Implementation>()) {
  NARROW_CHECK(rows > 0 && columns > 0);
  Implementation& self = *implementation_;
  self.rows = rows;
  self.columns = columns;
  self.panel_rows =
      panel_rows > 0 ? std::min(panel_rows, rows) : DefaultPanelRows(rows, columns, sizeof(T));
  self.strip_rows = NeedsEvenRows<T>() ? std::min(kStripRows, self.panel_rows) : self.panel_rows;
  try {
    self.Allocate();
  } catch (const dnnl::error& error) {
    FailOneDnn(error);
  }
}

template <typename T>
PackedMatrix<T>::~PackedMatrix() = default;
template <typename T>
PackedMatrix<T>::PackedMatrix(PackedMatrix&&) noexcept = default;
template <typename T>
PackedMatrix<T>& PackedMatrix<T>::operator=(PackedMatrix&&) noexcept = default;

template <typename T>
int64_t PackedMatrix<T>::ThreadBytes(int64_t rows, int64_t columns, int64_t m,
                                     int64_t output_bytes) {
  if (NeedsEvenRows<T>()) {
    const int64_t strip = std::min(kStripRows, rows);
    return kRowMultiple * (strip * output_bytes + columns * static_cast<int64_t>(sizeof(T))) +
           kBlockRows * strip * static_cast<int64_t>(sizeof(float));
  }
  const int64_t panel_rows = DefaultPanelRows(rows, columns, sizeof(T));
  return panel_rows < rows ? std::min(kBufferedRows, m) * panel_rows * output_bytes : 0;
}

template <typename T>
int64_t PackedMatrix<T>::rows() const {
  return implementation_->rows;
}
template <typename T>
int64_t PackedMatrix<T>::columns() const {
  return implementation_->columns;
}
template <typename T>
int64_t PackedMatrix<T>::panel_rows() const {
  return implementation_->panel_rows;
}
template <typename T>
int64_t PackedMatrix<T>::panel_count() const {
  return static_cast<int64_t>(implementation_->panels.size());
}
template <typename T>
int64_t PackedMatrix<T>::bytes() const {
  int64_t total = 0;
  for (const auto& panel : implementation_->panels) total += panel.size();
  return total;
}

template <typename T>
void PackedMatrix<T>::PackPanel(int64_t panel, MatrixView<const T> w) {
  Implementation& self = *implementation_;
  NARROW_CHECK(w.rows == self.RowsOf(panel) && w.columns == self.columns);
  self.Reorder(panel, true, w.data, w.stride);
}

template <typename T>
void PackedMatrix<T>::UnpackPanel(int64_t panel, MatrixView<T> w) const {
  Implementation& self = *implementation_;
  NARROW_CHECK(w.rows == self.RowsOf(panel) && w.columns == self.columns);
  self.Reorder(panel, false, w.data, w.stride);
}

template <typename T>
void PackedMatrix<T>::Pack(MatrixView<const T> w) {
  for (int64_t panel = 0; panel < panel_count(); ++panel) {
    const int64_t first = panel * panel_rows();
    PackPanel(panel, w.RowBlock(first, std::min(panel_rows(), rows() - first)));
  }
}

template <typename T>
void PackedMatrix<T>::SetEpilogue(std::span<const float> scales, std::span<const float> bias) {
  Implementation& self = *implementation_;
  const auto take = [&](std::span<const float> values, AlignedBuffer<float>& to) {
    NARROW_CHECK(values.empty() || static_cast<int64_t>(values.size()) == self.rows);
    to = AlignedBuffer<float>(static_cast<int64_t>(values.size()));
    std::ranges::copy(values, to.data());
  };
  take(scales, self.scales);
  take(bias, self.bias);
}

template <typename T>
void PackedMatrix<T>::Multiply(MatrixView<const T> x, MatrixView<T> out) const {
  for (int64_t panel = 0; panel < panel_count(); ++panel) {
    implementation_->Run(
        panel, x, out.ColumnBlock(panel * panel_rows(), implementation_->RowsOf(panel)), false);
  }
}

template <typename T>
void PackedMatrix<T>::MultiplyAdd(MatrixView<const T> x, MatrixView<float> out) const {
  for (int64_t panel = 0; panel < panel_count(); ++panel) {
    implementation_->Run(
        panel, x, out.ColumnBlock(panel * panel_rows(), implementation_->RowsOf(panel)), true);
  }
}

template <typename T>
void PackedMatrix<T>::MultiplyPanel(int64_t panel, MatrixView<const T> x,
                                    MatrixView<float> out) const {
  implementation_->Run(panel, x, out, false);
}

template class PackedMatrix<Bfloat16>;
template class PackedMatrix<float>;

}  // namespace narrow
