// oneDNN as the products of this module use it: primitives for one thread, executed on the calling
// one.
#pragma once

#include <compare>
#include <cstdint>
#include <dnnl.hpp>

#include "tensor/scalar_types.h"

namespace narrow {

using dnnl::memory;

const dnnl::engine& OneDnnEngine();
// Of the calling thread.
dnnl::stream& OneDnnStream();

template <typename T>
inline constexpr memory::data_type kType = memory::data_type::f32;
template <>
inline constexpr memory::data_type kType<Bfloat16> = memory::data_type::bf16;

memory::desc PlainDesc(int64_t rows, int64_t columns, int64_t stride, memory::data_type type);
// W [n, k] seen as the [k, n] operand of the product.
memory::desc TransposedDesc(int64_t n, int64_t k, int64_t stride, memory::data_type type);

// Whether the instruction sets oneDNN uses here include this one.
bool CpuHas(dnnl::cpu_isa isa);

// Primitives remember the thread count they were created under; ours run on the calling thread.
class SingleThreadScope {
 public:
  SingleThreadScope();
  ~SingleThreadScope();
  SingleThreadScope(const SingleThreadScope&) = delete;
  SingleThreadScope& operator=(const SingleThreadScope&) = delete;

 private:
  int saved_;
};

// What becomes of a product before it is stored: times a scale for each column, plus a bias for
// each column, plus what the destination held.
struct Epilogue {
  bool scales = false;
  bool bias = false;
  bool add = false;

  auto operator<=>(const Epilogue&) const = default;
};

struct Product {
  dnnl::matmul primitive;
  memory::desc source, weights, destination, columns, scratchpad;  // columns: a number for each
  Epilogue epilogue;
};

// Throws: dnnl::error, for which there is FailOneDnn.
Product CreateProduct(const memory::desc& source, const memory::desc& weights,
                      const memory::desc& destination, Epilogue epilogue);
// `scales` and `bias` are not used where the product has none.
void Execute(const Product& product, const void* source, const void* weights, const float* scales,
             const float* bias, void* destination);

// Throws: kInternal with what oneDNN said.
[[noreturn]] void FailOneDnn(const dnnl::error& error);

}  // namespace narrow
