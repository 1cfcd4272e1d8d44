#include "evaluation/windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace narrow {
namespace {

using testing::ElementsAre;

TEST(ChooseWindows, SpreadFirstAndAll) {
  EXPECT_THAT(ChooseWindows(105, 10, 4, WindowChoice::kSpread), ElementsAre(0, 2, 5, 7));
  EXPECT_THAT(ChooseWindows(105, 10, 4, WindowChoice::kFirst), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(ChooseWindows(39, 10, 0, WindowChoice::kSpread), ElementsAre(0, 1, 2));
  EXPECT_THAT(ChooseWindows(39, 10, 7, WindowChoice::kSpread), ElementsAre(0, 1, 2));
}

TEST(ChooseWindows, RefusesTextsWithoutAWindow) {
  EXPECT_THROW(ChooseWindows(9, 10, 0, WindowChoice::kFirst), Error);
  EXPECT_THROW(ChooseWindows(9, 1, 0, WindowChoice::kFirst), Error);
}

}  // namespace
}  // namespace narrow
