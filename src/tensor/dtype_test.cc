#include "tensor/dtype.h"

#include <gtest/gtest.h>

namespace narrow {
namespace {

TEST(Dtype, NamesAndSizesAreThoseOfSafetensors) {
  EXPECT_EQ(DtypeFromName("BF16"), Dtype::kBF16);
  EXPECT_EQ(DtypeFromName("F8_E4M3"), Dtype::kF8E4M3);
  EXPECT_EQ(DtypeFromName("BOOL"), Dtype::kBool);
  EXPECT_EQ(ElementBytes(Dtype::kF8E4M3), 1);
  EXPECT_EQ(ElementBytes(Dtype::kF16), 2);
  EXPECT_EQ(ElementBytes(Dtype::kF32), 4);
  EXPECT_EQ(ElementBytes(Dtype::kI64), 8);
  EXPECT_TRUE(Info(Dtype::kF8E5M2).floating);
  EXPECT_FALSE(Info(Dtype::kU8).floating);
}

TEST(Dtype, EveryNameIsReadBack) {
  for (int i = 0; i <= static_cast<int>(Dtype::kF64); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    EXPECT_EQ(DtypeFromName(Name(dtype)), dtype);
  }
}

TEST(Dtype, UnknownNamesAreNothing) {
  EXPECT_EQ(DtypeFromName(""), std::nullopt);
  EXPECT_EQ(DtypeFromName("bf16"), std::nullopt);
  EXPECT_EQ(DtypeFromName("F8_E4M3FN"), std::nullopt);
}

}  // namespace
}  // namespace narrow
