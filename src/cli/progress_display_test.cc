#include "cli/progress_display.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/error.h"

namespace narrow {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A display with a clock that the test sets and a screen that it reads.
class ProgressDisplayTest : public testing::Test {
 protected:
  void Start(ProgressDisplay::Style style, int64_t columns = 80) {
    ProgressDisplay::Options options;
    options.style = style;
    options.columns = columns;
    options.now = [this] { return now_; };
    options.write = [this](std::string_view bytes) {
      ++writes_;
      screen_ += bytes;
    };
    display_ = std::make_unique<ProgressDisplay>(std::move(options));
  }
  std::string TakeScreen() { return std::exchange(screen_, {}); }

  double now_ = 1000;
  int writes_ = 0;
  std::string screen_;
  std::unique_ptr<ProgressDisplay> display_;
};

TEST_F(ProgressDisplayTest, TerminalRedrawsOneLine) {
  Start(ProgressDisplay::Style::kTerminal);
  display_->BeginPhase("Calibration", 200, "tokens");
  EXPECT_EQ(TakeScreen(), "\rCalibration   0 % [" + std::string(30, ' ') + "] \x1b[K");
  now_ += 2;
  display_->Advance(50);
  EXPECT_EQ(TakeScreen(), "\rCalibration  25 % [" + std::string(7, '#') + std::string(23, ' ') +
                              "] 25.0 tokens/s, 6 s left\x1b[K");
  now_ += 3;
  display_->Advance(150);
  TakeScreen();
  display_->EndPhase();
  EXPECT_EQ(TakeScreen(), "\r\x1b[KCalibration: 200 tokens in 5 s, 40.0 tokens/s\n");
}

TEST_F(ProgressDisplayTest, TerminalIsDrawnAtMostTenTimesASecond) {
  Start(ProgressDisplay::Style::kTerminal);
  display_->BeginPhase("Evaluation", 100000, "tokens");
  writes_ = 0;
  for (int i = 0; i < 10000; ++i) {
    now_ += 0.001;
    display_->Advance(10);
  }
  EXPECT_GT(writes_, 50);
  EXPECT_LE(writes_, 100);
}

TEST_F(ProgressDisplayTest, TerminalLinesNeverWrap) {
  for (int64_t columns = 1; columns < 120; ++columns) {
    Start(ProgressDisplay::Style::kTerminal, columns);
    display_->BeginPhase("Quantization of all the layers", 1'000'000'000, "bytes");
    now_ += 7;
    display_->Advance(123'456'789);
    TakeScreen();
    now_ += 7;
    display_->Advance(1);
    const std::string line = TakeScreen();
    ASSERT_TRUE(line.starts_with('\r') && line.ends_with("\x1b[K"));
    EXPECT_LT(static_cast<int64_t>(line.size()) - 4, std::max<int64_t>(columns, 20));
    display_->EndPhase();
    display_.reset();
  }
}

TEST_F(ProgressDisplayTest, MessagesMoveTheBarDownAndAreKept) {
  Start(ProgressDisplay::Style::kTerminal);
  display_->BeginPhase("Reading", 10, "layers");
  TakeScreen();
  display_->Warning("tensor \x1b[2J\nis odd");
  EXPECT_THAT(TakeScreen(), testing::StartsWith("\r\x1b[Kwarning: tensor ?[2J?is odd\n\rReading"));
  display_->Info("done with it");
  EXPECT_THAT(display_->warnings(), ElementsAre("tensor \x1b[2J\nis odd"));
  display_->EndPhase();
}

TEST_F(ProgressDisplayTest, AnUnfinishedBarEndsItsLine) {
  Start(ProgressDisplay::Style::kTerminal);
  display_->BeginPhase("Reading", 10, "layers");
  TakeScreen();
  display_.reset();
  EXPECT_EQ(TakeScreen(), "\n");
}

TEST_F(ProgressDisplayTest, LogHasPlainLinesFewSecondsApart) {
  Start(ProgressDisplay::Style::kLog);
  display_->BeginPhase("Calibration", 1000, "tokens");
  for (int second = 0; second < 10; ++second) {
    now_ += 1;
    display_->Advance(100);
  }
  display_->EndPhase();
  EXPECT_EQ(TakeScreen(),
            "Calibration: 1000 tokens\n"
            "Calibration: 30 %, 300 tokens, 100 tokens/s, 7 s left\n"
            "Calibration: 60 %, 600 tokens, 100 tokens/s, 4 s left\n"
            "Calibration: 90 %, 900 tokens, 100 tokens/s, 1 s left\n"
            "Calibration: 1000 tokens in 10 s, 100 tokens/s\n");
}

TEST_F(ProgressDisplayTest, LogOfASlowPhaseHasALineEveryTenthOrHalfMinute) {
  Start(ProgressDisplay::Style::kLog);
  display_->BeginPhase("Evaluation", 100, "windows");
  for (int i = 0; i < 12; ++i) {
    now_ += 10;
    display_->Advance(1);
  }
  const std::string log = TakeScreen();
  EXPECT_THAT(log, HasSubstr("Evaluation: 3 %, 3 windows, 0.10 windows/s, 16:10 left\n"));
  EXPECT_THAT(log, HasSubstr("Evaluation: 10 %, 10 windows, 0.10 windows/s, 15:00 left\n"));
  EXPECT_EQ(std::ranges::count(log, '\n'), 5);  // start, 3, 6, 9 and 10 %
  EXPECT_EQ(log.find('\r'), std::string::npos);
}

TEST_F(ProgressDisplayTest, UnknownTotalsAndEmptyPhasesHaveNoTimeLeft) {
  Start(ProgressDisplay::Style::kLog);
  display_->BeginPhase("Reading", 0, "bytes");
  now_ += 31;
  display_->Advance(31 << 20);
  display_->EndPhase();
  display_->BeginPhase("Nothing", 5, "layers");
  display_->EndPhase();
  EXPECT_EQ(TakeScreen(),
            "Reading\n"
            "Reading: 31.0 MiB, 1.00 MiB/s\n"
            "Reading: 31.0 MiB in 31 s, 1.00 MiB/s\n"
            "Nothing: 5 layers\n"
            "Nothing: 0 layers in 0 s\n");
}

TEST_F(ProgressDisplayTest, LayersAreShownInTenthsAndSlowOnesBySeconds) {
  Start(ProgressDisplay::Style::kLog);
  display_->BeginPhase("Quantizing", 2 * kPartsPerLayer, kLayerParts);
  now_ += 60;
  display_->Advance(kPartsPerLayer / 4);
  now_ += 420;
  display_->Advance(2 * kPartsPerLayer - kPartsPerLayer / 4);
  display_->EndPhase();
  EXPECT_EQ(TakeScreen(),
            "Quantizing: 2 layers\n"
            "Quantizing: 12 %, 0.2 layers, 240 s/layer, 7:00 left\n"
            "Quantizing: 100 %, 2 layers, 240 s/layer, 0 s left\n"
            "Quantizing: 2 layers in 8:00, 240 s/layer\n");
}

TEST_F(ProgressDisplayTest, UnitsOfAnEarlierRunCountForNoTime) {
  Start(ProgressDisplay::Style::kLog);
  display_->BeginPhase("Quantizing", 10 * kPartsPerLayer, kLayerParts);
  display_->Skip(5 * kPartsPerLayer);
  now_ += 4;
  display_->Advance(2 * kPartsPerLayer);
  now_ += 6;
  display_->Advance(3 * kPartsPerLayer);
  display_->EndPhase();
  EXPECT_EQ(TakeScreen(),
            "Quantizing: 10 layers\n"
            "Quantizing: 70 %, 7 layers, 0.50 layers/s, 6 s left\n"
            "Quantizing: 5 layers in 10 s, 0.50 layers/s\n");
}

TEST_F(ProgressDisplayTest, PhasesDoNotNest) {
  Start(ProgressDisplay::Style::kLog);
  EXPECT_THROW(display_->Advance(1), Error);
  display_->BeginPhase("a", 1, "layers");
  EXPECT_THROW(display_->BeginPhase("b", 1, "layers"), Error);
  display_->EndPhase();
  EXPECT_THROW(display_->EndPhase(), Error);
}

}  // namespace
}  // namespace narrow
