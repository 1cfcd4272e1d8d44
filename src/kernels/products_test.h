// For tests whose operands are of a type.
#pragma once

#include <gtest/gtest.h>

#include <type_traits>

#include "kernels/operand_types.h"
#include "tensor/scalar_types.h"

namespace narrow {

// Skipped where this CPU has no products of T.
template <typename T>
class TestWithProducts : public testing::Test {
 protected:
  void SetUp() override {
    constexpr bool kHalf = std::is_same_v<T, Bfloat16>;
    if (!HasProducts(kHalf ? ComputeType::kBfloat16 : ComputeType::kFloat32)) {
      GTEST_SKIP() << "this CPU has no products of bf16";
    }
  }
};

}  // namespace narrow
