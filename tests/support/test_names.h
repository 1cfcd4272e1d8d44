// Names of parameterised tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace narrow {

// Of a parameter that names a model ("qwen3-moe"): GoogleTest takes letters, digits and '_' alone.
inline std::string NameOfModelTest(const testing::TestParamInfo<const char*>& test) {
  std::string name = test.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

}  // namespace narrow
