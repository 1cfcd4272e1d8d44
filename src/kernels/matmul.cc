#include "kernels/matmul.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/checked_math.h"
#include "base/parallel.h"

namespace narrow {
namespace {

using dnnl::memory;

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& Stream() {
  thread_local dnnl::stream stream(Engine());
  return stream;
}

template <typename T>
constexpr memory::data_type kType = memory::data_type::f32;
template <>
constexpr memory::data_type kType<Bfloat16> = memory::data_type::bf16;

memory::desc PlainDesc(int64_t rows, int64_t columns, int64_t stride, memory::data_type type) {
  return {{rows, columns}, type, memory::dims{stride, 1}};
}

// W [n, k] seen as the [k, n] operand of the product.
memory::desc TransposedDesc(int64_t n, int64_t k, int64_t stride, memory::data_type type) {
  return {{k, n}, type, memory::dims{1, stride}};
}

// Primitives remember the thread count they were created under; ours run on the calling thread.
class SingleThreadScope {
 public:
  SingleThreadScope() : saved_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~SingleThreadScope() { omp_set_num_threads(saved_); }
  SingleThreadScope(const SingleThreadScope&) = delete;
  SingleThreadScope& operator=(const SingleThreadScope&) = delete;

 private:
  int saved_;
};

// What the product does to its destination.
enum class Epilogue { kStore, kScaleAndAdd };

struct Product {
  dnnl::matmul primitive;
  memory::desc source, weights, destination, bias, scratchpad;
};

std::atomic<int64_t>& ReferenceProducts() {
  static std::atomic<int64_t> count = 0;
  return count;
}

// How a product is scaled before it is added; both mean the same.
enum class Scaling { kPostOp, kOutputScale };

dnnl::primitive_attr Attributes(Epilogue epilogue, float scale, Scaling scaling) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (epilogue != Epilogue::kScaleAndAdd) return attributes;
  dnnl::post_ops post_ops;
  if (scale != 1.0f && scaling == Scaling::kPostOp) {
    post_ops.append_eltwise(1.0f, dnnl::algorithm::eltwise_linear, scale, 0.0f);
  }
  if (scaling == Scaling::kOutputScale) attributes.set_output_scales(0, {scale});
  post_ops.append_sum(1.0f);
  attributes.set_post_ops(post_ops);
  return attributes;
}

bool IsReference(const dnnl::matmul::primitive_desc& primitive_desc) {
  return std::string_view(primitive_desc.impl_info_str()).starts_with("ref");
}

Product CreateProduct(const memory::desc& source, const memory::desc& weights,
                      const memory::desc& bias, const memory::desc& destination, Epilogue epilogue,
                      float scale) {
  const SingleThreadScope single_thread;
  const dnnl::matmul::desc desc = bias.is_zero()
                                      ? dnnl::matmul::desc(source, weights, destination)
                                      : dnnl::matmul::desc(source, weights, bias, destination);
  const auto create = [&](Scaling scaling) {
    return dnnl::matmul::primitive_desc(desc, Attributes(epilogue, scale, scaling), Engine());
  };
  dnnl::matmul::primitive_desc primitive_desc = create(Scaling::kPostOp);
  // Without AVX-512 oneDNN 2.6 has no fast f32 product with a scale among its post-ops.
  if (IsReference(primitive_desc) && scale != 1.0f) primitive_desc = create(Scaling::kOutputScale);
  if (IsReference(primitive_desc)) ++ReferenceProducts();
  return {dnnl::matmul(primitive_desc),
          primitive_desc.src_desc(),
          primitive_desc.weights_desc(),
          primitive_desc.dst_desc(),
          bias,
          primitive_desc.scratchpad_desc()};
}

// The output of a panel while it is one of several, of the thread.
template <typename Out>
MatrixView<Out> PanelOutput(int64_t m, int64_t panel_rows) {
  thread_local AlignedBuffer<Out> buffer;
  if (buffer.size() < m * panel_rows) buffer = AlignedBuffer<Out>(m * panel_rows);
  return {buffer.data(), m, panel_rows};
}

template <typename T>
void CopyRows(MatrixView<const T> from, MatrixView<T> to) {
  for (int64_t row = 0; row < from.rows; ++row) std::ranges::copy(from.RowSpan(row), to.Row(row));
}

// Grows with the largest product of the thread.
void* Scratchpad(const memory::desc& desc) {
  thread_local AlignedBuffer<std::byte> buffer;
  const auto bytes = static_cast<int64_t>(desc.get_size());
  if (buffer.size() < bytes) buffer = AlignedBuffer<std::byte>(bytes);
  return buffer.data();
}

void Execute(const Product& product, const void* source, const void* weights, const float* bias,
             void* destination) {
  const auto operand = [](const memory::desc& desc, const void* data) {
    return memory(desc, Engine(), const_cast<void*>(data));
  };
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, operand(product.source, source)},
      {DNNL_ARG_WEIGHTS, operand(product.weights, weights)},
      {DNNL_ARG_DST, operand(product.destination, destination)},
      {DNNL_ARG_SCRATCHPAD, operand(product.scratchpad, Scratchpad(product.scratchpad))}};
  if (!product.bias.is_zero()) arguments.insert({DNNL_ARG_BIAS, operand(product.bias, bias)});
  product.primitive.execute(Stream(), arguments);
}

[[noreturn]] void FailOneDnn(const dnnl::error& error) {
  Fail(ErrorCode::kInternal, "oneDNN: {} (status {})", error.what(),
       static_cast<int>(error.status));
}

// The row count the packed layout is chosen for; any other row count uses the same layout.
constexpr int64_t kCanonicalRows = 512;
constexpr int64_t kPanelBytes = int64_t{128} << 20;
constexpr int64_t kPanelRowMultiple = 128;  // whole heads
constexpr int64_t kBufferedRows = 256;      // of the output of a panel that is one of several
constexpr int64_t kReorderRows = 64;        // of a panel, at least, per thread that packs it

int64_t DefaultPanelRows(int64_t rows, int64_t columns, int64_t element_bytes) {
  const int64_t fitting = kPanelBytes / (columns * element_bytes) / kPanelRowMultiple;
  return std::min(rows, std::max<int64_t>(1, fitting) * kPanelRowMultiple);
}

// The enumerators are bit sets: a superset of `isa` includes all of its bits.
bool CpuHas(dnnl::cpu_isa isa) {
  const auto wanted = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & wanted) == wanted;
}

// Without AVX-512 oneDNN 2.6 multiplies f32 by one of three kernels, whose sums differ in the last
// bits: one for a single row, one wherever rows or columns of the output are few (at most 263 of
// either are always few), one for the rest. The second takes rows in sixes, and in another order of
// sums what is left over; with a multiple of 12 rows nothing is, even where it halves them. So
// every row is computed alike in blocks of at most kBlockRows, in multiples of kRowMultiple.
constexpr int64_t kRowMultiple = 12;
constexpr int64_t kBlockRows = 252;
static_assert(kBlockRows % kRowMultiple == 0);
// It reads W^T in place, at 60 % of its speed where rows lie multiples of 4096 bytes apart: strips
// of W keep them closer.
constexpr int64_t kStripRows = 256;

template <typename T>
bool NeedsEvenRows() {
  return std::is_same_v<T, float> && !CpuHas(dnnl::cpu_isa::avx512_core);
}

enum class PaddedOperand { kSource, kDestination };

// A copy of at most kRowMultiple rows, with rows of zeros up to that number.
template <PaddedOperand, typename T>
MatrixView<T> PadRows(MatrixView<const T> x) {
  thread_local AlignedBuffer<T> buffer;
  const int64_t size = kRowMultiple * x.columns;
  if (buffer.size() < size) buffer = AlignedBuffer<T>(size);
  const MatrixView<T> padded(buffer.data(), kRowMultiple, x.columns);
  CopyRows<T>(x, padded);
  std::fill(padded.Row(x.rows), padded.Row(kRowMultiple), T{});
  return padded;
}

// multiply(rows of x, the same rows of out) in blocks of even numbers of rows.
template <typename T, typename Out, typename Multiply>
void MultiplyEvenRows(MatrixView<const T> x, MatrixView<Out> out, const Multiply& multiply) {
  const int64_t whole = x.rows / kRowMultiple * kRowMultiple;
  for (int64_t first = 0; first < whole; first += kBlockRows) {
    const int64_t count = std::min(kBlockRows, whole - first);
    multiply(x.RowBlock(first, count), out.RowBlock(first, count));
  }
  if (whole == x.rows) return;
  const MatrixView<Out> last = out.RowBlock(whole, x.rows - whole);
  const MatrixView<Out> padded = PadRows<PaddedOperand::kDestination, Out>(last);
  multiply(PadRows<PaddedOperand::kSource, T>(x.RowBlock(whole, last.rows)), padded);
  CopyRows<Out>(padded.RowBlock(0, last.rows), last);
}

}  // namespace

ComputeType NativeComputeType() {
  return CpuHas(dnnl::cpu_isa::avx512_core_bf16) ? ComputeType::kBfloat16 : ComputeType::kFloat32;
}

std::string InstructionSetName() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    default:
      return "sse4.1 or other";
  }
}

int64_t ReferenceProductCount() { return ReferenceProducts(); }

template <typename T>
struct PackedMatrix<T>::Implementation {
  // Everything a product's primitive depends on besides the matrix.
  using Key = std::tuple<int64_t /*m*/, int64_t /*strip rows*/, int64_t /*x stride*/,
                         int64_t /*out stride*/, int /*out type*/, Epilogue, float /*scale*/>;

  int64_t rows = 0;
  int64_t columns = 0;
  int64_t panel_rows = 0;
  int64_t strip_rows = 0;   // what a panel is packed and multiplied in: itself, or kStripRows
  int64_t strip_bytes = 0;  // of a full one
  std::vector<AlignedBuffer<std::byte>> panels;
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
    const dnnl::matmul::primitive_desc primitive_desc(desc, Engine());
    return layouts.emplace(count, primitive_desc.weights_desc()).first->second;
  }

  template <typename Out>
  const Product& Find(int64_t m, int64_t count, int64_t x_stride, int64_t out_stride,
                      Epilogue epilogue, float scale) {
    const Key key = {m, count, x_stride, out_stride, static_cast<int>(kType<Out>), epilogue, scale};
    const std::lock_guard lock(mutex);
    const auto found = products.find(key);
    if (found != products.end()) return found->second;
    const memory::desc bias_desc =
        bias.size() == 0 ? memory::desc() : PlainDesc(1, count, count, memory::data_type::f32);
    return products
        .emplace(key,
                 CreateProduct(PlainDesc(m, columns, x_stride, kType<T>), Layout(count), bias_desc,
                               PlainDesc(m, count, out_stride, kType<Out>), epilogue, scale))
        .first->second;
  }

  template <typename Out>
  void Run(int64_t panel, MatrixView<const T> x, MatrixView<Out> out, Epilogue epilogue,
           float scale) {
    NARROW_CHECK(x.columns == columns && out.columns == RowsOf(panel) && out.rows == x.rows);
    if (x.rows == 0) return;
    if (!NeedsEvenRows<T>()) return RunPanel(StripOf(panel, 0), x, out, epilogue, scale);
    for (int64_t first = 0; first < out.columns; first += strip_rows) {
      const Strip strip = StripOf(panel, first);
      MultiplyEvenRows(x, out.ColumnBlock(first, strip.rows),
                       [&](MatrixView<const T> part, MatrixView<Out> product) {
                         RunStrip(strip, part, product, epilogue, scale);
                       });
    }
  }

  // With AVX-512 oneDNN has fast products with packed weights for outputs without gaps between the
  // rows only: a panel that is one of several goes through a buffer.
  template <typename Out>
  void RunPanel(const Strip& panel, MatrixView<const T> x, MatrixView<Out> out, Epilogue epilogue,
                float scale) {
    if (out.stride == out.columns) return RunStrip(panel, x, out, epilogue, scale);
    for (int64_t first = 0; first < x.rows; first += kBufferedRows) {
      const int64_t count = std::min(kBufferedRows, x.rows - first);
      const MatrixView<Out> part = out.RowBlock(first, count);
      const MatrixView<Out> dense = PanelOutput<Out>(count, out.columns);
      if (epilogue == Epilogue::kScaleAndAdd) CopyRows<Out>(part, dense);
      RunStrip(panel, x.RowBlock(first, count), dense, epilogue, scale);
      CopyRows<Out>(dense, part);
    }
  }

  template <typename Out>
  void RunStrip(const Strip& strip, MatrixView<const T> x, MatrixView<Out> out, Epilogue epilogue,
                float scale) {
    try {
      const Product& product = Find<Out>(x.rows, strip.rows, x.stride, out.stride, epilogue, scale);
      const float* bias_data = bias.size() == 0 ? nullptr : bias.data() + strip.first_row;
      Execute(product, x.data, strip.data, bias_data, out.data);
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
        memory inside(layout.submemory_desc(size, {0, first}), Engine(), strip.data);
        memory outside(rows_desc.submemory_desc(size, {0, first}), Engine(), const_cast<T*>(plain));
        memory& from = packing ? outside : inside;
        memory& to = packing ? inside : outside;
        dnnl::reorder(from, to).execute(Stream(), from, to);
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
    return kRowMultiple *
           (std::min(kStripRows, rows) * output_bytes + columns * static_cast<int64_t>(sizeof(T)));
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
void PackedMatrix<T>::SetBias(std::span<const float> bias) {
  Implementation& self = *implementation_;
  NARROW_CHECK(bias.empty() || static_cast<int64_t>(bias.size()) == self.rows);
  self.products.clear();
  self.bias = AlignedBuffer<float>(static_cast<int64_t>(bias.size()));
  std::copy(bias.begin(), bias.end(), self.bias.data());
}

template <typename T>
void PackedMatrix<T>::Multiply(MatrixView<const T> x, MatrixView<T> out) const {
  for (int64_t panel = 0; panel < panel_count(); ++panel) {
    implementation_->Run(panel, x,
                         out.ColumnBlock(panel * panel_rows(), implementation_->RowsOf(panel)),
                         Epilogue::kStore, 1.0f);
  }
}

template <typename T>
void PackedMatrix<T>::MultiplyAdd(MatrixView<const T> x, float scale, MatrixView<float> out) const {
  for (int64_t panel = 0; panel < panel_count(); ++panel) {
    implementation_->Run(panel, x,
                         out.ColumnBlock(panel * panel_rows(), implementation_->RowsOf(panel)),
                         Epilogue::kScaleAndAdd, scale);
  }
}

template <typename T>
void PackedMatrix<T>::MultiplyPanel(int64_t panel, MatrixView<const T> x,
                                    MatrixView<float> out) const {
  implementation_->Run(panel, x, out, Epilogue::kStore, 1.0f);
}

template class PackedMatrix<Bfloat16>;
template class PackedMatrix<float>;

namespace {

enum class SecondOperand { kPlain, kTransposed };

template <typename T>
const Product& FindPlainProduct(MatrixView<const T> a, MatrixView<const T> b, SecondOperand layout,
                                MatrixView<float> c, Epilogue epilogue) {
  using Key =
      std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, SecondOperand, Epilogue>;
  thread_local std::map<Key, Product> products;
  const Key key = {a.rows, a.columns, c.columns, a.stride, b.stride, c.stride, layout, epilogue};
  const auto found = products.find(key);
  if (found != products.end()) return found->second;
  const memory::desc weights = layout == SecondOperand::kTransposed
                                   ? TransposedDesc(b.rows, b.columns, b.stride, kType<T>)
                                   : PlainDesc(b.rows, b.columns, b.stride, kType<T>);
  return products
      .emplace(key, CreateProduct(PlainDesc(a.rows, a.columns, a.stride, kType<T>), weights, {},
                                  PlainDesc(c.rows, c.columns, c.stride, memory::data_type::f32),
                                  epilogue, 1.0f))
      .first->second;
}

template <typename T>
void RunPlainProduct(MatrixView<const T> a, MatrixView<const T> b, SecondOperand layout,
                     MatrixView<float> c, Epilogue epilogue) {
  try {
    Execute(FindPlainProduct(a, b, layout, c, epilogue), a.data, b.data, nullptr, c.data);
  } catch (const dnnl::error& error) {
    FailOneDnn(error);
  }
}

}  // namespace

template <typename T>
void ProductTransposed(MatrixView<const T> a, MatrixView<const T> b, MatrixView<float> c) {
  NARROW_CHECK(a.columns == b.columns && c.rows == a.rows && c.columns == b.rows);
  const auto multiply = [&](MatrixView<const T> rows, MatrixView<float> product) {
    RunPlainProduct(rows, b, SecondOperand::kTransposed, product, Epilogue::kStore);
  };
  if (NeedsEvenRows<T>()) return MultiplyEvenRows(a, c, multiply);
  multiply(a, c);
}

template <typename T>
void ProductAdd(MatrixView<const T> a, MatrixView<const T> b, MatrixView<float> c) {
  NARROW_CHECK(a.columns == b.rows && c.rows == a.rows && c.columns == b.columns);
  RunPlainProduct(a, b, SecondOperand::kPlain, c, Epilogue::kScaleAndAdd);
}

template void ProductTransposed<Bfloat16>(MatrixView<const Bfloat16>, MatrixView<const Bfloat16>,
                                          MatrixView<float>);
template void ProductTransposed<float>(MatrixView<const float>, MatrixView<const float>,
                                       MatrixView<float>);
template void ProductAdd<Bfloat16>(MatrixView<const Bfloat16>, MatrixView<const Bfloat16>,
                                   MatrixView<float>);
template void ProductAdd<float>(MatrixView<const float>, MatrixView<const float>,
                                MatrixView<float>);

}  // namespace narrow
