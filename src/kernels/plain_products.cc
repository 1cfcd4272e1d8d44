#include <map>
#include <tuple>

#include "kernels/even_rows.h"
#include "kernels/matmul.h"
#include "kernels/onednn_product.h"

namespace narrow {

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
      .emplace(key, CreateProduct(PlainDesc(a.rows, a.columns, a.stride, kType<T>), weights,
                                  PlainDesc(c.rows, c.columns, c.stride, memory::data_type::f32),
                                  epilogue))
      .first->second;
}

template <typename T>
void RunPlainProduct(MatrixView<const T> a, MatrixView<const T> b, SecondOperand layout,
                     MatrixView<float> c, Epilogue epilogue) {
  try {
    Execute(FindPlainProduct(a, b, layout, c, epilogue), a.data, b.data, nullptr, nullptr, c.data);
  } catch (const dnnl::error& error) {
    FailOneDnn(error);
  }
}

}  // namespace

template <typename T>
void ProductTransposed(MatrixView<const T> a, MatrixView<const T> b, MatrixView<float> c) {
  NARROW_CHECK(a.columns == b.columns && c.rows == a.rows && c.columns == b.rows);
  const auto multiply = [&](MatrixView<const T> rows, MatrixView<float> product) {
    RunPlainProduct(rows, b, SecondOperand::kTransposed, product, {});
  };
  if (NeedsEvenRows<T>()) return MultiplyEvenRows(a, c, multiply);
  multiply(a, c);
}

template <typename T>
void ProductAdd(MatrixView<const T> a, MatrixView<const T> b, MatrixView<float> c) {
  NARROW_CHECK(a.columns == b.rows && c.rows == a.rows && c.columns == b.columns);
  RunPlainProduct(a, b, SecondOperand::kPlain, c, {.add = true});
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
