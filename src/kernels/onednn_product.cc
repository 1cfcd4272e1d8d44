#include "kernels/onednn_product.h"

#include <omp.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "kernels/matmul.h"
#include "kernels/operand_types.h"
#include "tensor/tensor.h"

namespace narrow {

namespace {

// With AMX, oneDNN 2.6 multiplies few rows in another order of sums than many: a row would depend
// on its neighbours, and with it the result on batches and threads. Its AVX512_BF16 products do
// not, and every CPU with AMX has these. Who sets oneDNN's own variable has asked for what it says.
// To be called before oneDNN first looks at the CPU.
void LimitInstructionSet() {
  static const bool limited = [] {
    const bool told =
        std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr || std::getenv("DNNL_MAX_CPU_ISA") != nullptr;
    return !told && dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core_bf16) == dnnl::status::success;
  }();
  static_cast<void>(limited);
}

dnnl::cpu_isa InstructionSet() {
  LimitInstructionSet();
  return dnnl::get_effective_cpu_isa();
}

dnnl::engine MakeEngine() {
  LimitInstructionSet();
  return dnnl::engine(dnnl::engine::kind::cpu, 0);
}

}  // namespace

const dnnl::engine& OneDnnEngine() {
  static const dnnl::engine engine = MakeEngine();
  return engine;
}

dnnl::stream& OneDnnStream() {
  thread_local dnnl::stream stream(OneDnnEngine());
  return stream;
}

memory::desc PlainDesc(int64_t rows, int64_t columns, int64_t stride, memory::data_type type) {
  return {{rows, columns}, type, memory::dims{stride, 1}};
}

memory::desc TransposedDesc(int64_t n, int64_t k, int64_t stride, memory::data_type type) {
  return {{k, n}, type, memory::dims{1, stride}};
}

SingleThreadScope::SingleThreadScope() : saved_(omp_get_max_threads()) { omp_set_num_threads(1); }
SingleThreadScope::~SingleThreadScope() { omp_set_num_threads(saved_); }

// The enumerators are bit sets: a superset of `isa` includes all of its bits.
bool CpuHas(dnnl::cpu_isa isa) {
  const auto wanted = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(InstructionSet()) & wanted) == wanted;
}

namespace {

std::atomic<int64_t>& ReferenceProducts() {
  static std::atomic<int64_t> count = 0;
  return count;
}

// Without scales the bias is the product's own, which costs less than a step after it.
dnnl::primitive_attr Attributes(const Epilogue& epilogue, const memory::desc& columns) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops post_ops;
  if (epilogue.scales) {
    post_ops.append_binary(dnnl::algorithm::binary_mul, columns);
    if (epilogue.bias) post_ops.append_binary(dnnl::algorithm::binary_add, columns);
  }
  if (epilogue.add) post_ops.append_sum(1.0f);
  attributes.set_post_ops(post_ops);
  return attributes;
}

bool IsReference(const dnnl::matmul::primitive_desc& primitive_desc) {
  return std::string_view(primitive_desc.impl_info_str()).starts_with("ref");
}

// Grows with the largest product of the thread.
void* Scratchpad(const memory::desc& desc) {
  thread_local AlignedBuffer<std::byte> buffer;
  const auto bytes = static_cast<int64_t>(desc.get_size());
  if (buffer.size() < bytes) buffer = AlignedBuffer<std::byte>(bytes);
  return buffer.data();
}

}  // namespace

Product CreateProduct(const memory::desc& source, const memory::desc& weights,
                      const memory::desc& destination, Epilogue epilogue) {
  const SingleThreadScope single_thread;
  const int64_t count = destination.dims()[1];
  const memory::desc columns = PlainDesc(1, count, count, memory::data_type::f32);
  const dnnl::matmul::desc desc = epilogue.bias && !epilogue.scales
                                      ? dnnl::matmul::desc(source, weights, columns, destination)
                                      : dnnl::matmul::desc(source, weights, destination);
  const dnnl::matmul::primitive_desc primitive_desc(desc, Attributes(epilogue, columns),
                                                    OneDnnEngine());
  if (IsReference(primitive_desc)) ++ReferenceProducts();
  return {dnnl::matmul(primitive_desc),
          primitive_desc.src_desc(),
          primitive_desc.weights_desc(),
          primitive_desc.dst_desc(),
          columns,
          primitive_desc.scratchpad_desc(),
          epilogue};
}

void Execute(const Product& product, const void* source, const void* weights, const float* scales,
             const float* bias, void* destination) {
  const auto operand = [](const memory::desc& desc, const void* data) {
    return memory(desc, OneDnnEngine(), const_cast<void*>(data));
  };
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, operand(product.source, source)},
      {DNNL_ARG_WEIGHTS, operand(product.weights, weights)},
      {DNNL_ARG_DST, operand(product.destination, destination)},
      {DNNL_ARG_SCRATCHPAD, operand(product.scratchpad, Scratchpad(product.scratchpad))}};
  const auto step = [](int index) {
    return DNNL_ARG_ATTR_MULTIPLE_POST_OP(index) | DNNL_ARG_SRC_1;
  };
  if (product.epilogue.scales) arguments.insert({step(0), operand(product.columns, scales)});
  if (product.epilogue.bias) {
    arguments.insert(
        {product.epilogue.scales ? step(1) : DNNL_ARG_BIAS, operand(product.columns, bias)});
  }
  product.primitive.execute(OneDnnStream(), arguments);
}

void FailOneDnn(const dnnl::error& error) {
  Fail(ErrorCode::kInternal, "oneDNN: {} (status {})", error.what(),
       static_cast<int>(error.status));
}

int64_t ReferenceProductCount() { return ReferenceProducts(); }

bool HasProducts(ComputeType type) {
  return type == ComputeType::kFloat32 || CpuHas(dnnl::cpu_isa::avx512_core);
}

ComputeType NativeComputeType() {
  return CpuHas(dnnl::cpu_isa::avx512_core_bf16) ? ComputeType::kBfloat16 : ComputeType::kFloat32;
}

std::string InstructionSetName() {
  switch (InstructionSet()) {
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

}  // namespace narrow
