#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/report_fixture.h"

namespace narrow {
namespace {

using testing::HasSubstr;

RunReport::LayerRecord Layer(double qkv, double down) {
  RunReport::LayerRecord layer;
  layer.facts.errors = LayerErrors{{qkv, 0.0, 0.0, down}, 0.0, qkv + down};
  return layer;
}

TEST(OutputErrors, TheWorstLayersComeFirst) {
  RunReport report;
  EXPECT_EQ(DescribeWorstLayers(report), "");
  report.layers = {Layer(1.0, 0.5), {}, Layer(1.25, 2.5), Layer(2.0, 0.75), Layer(1.0, 1.0)};
  EXPECT_EQ(DescribeWorstLayers(report),
            "2 (37.5 %, down most), 3 (27.5 %, q/k/v most), 4 (20.0 %, q/k/v most)");
}

TEST(OutputErrors, KeptGroupsSayWhatTheyCost) {
  RunReport report = FullReport();
  EXPECT_EQ(DescribeKept(report), "1 group of linears, 2.00 MiB more (+11.1 %)");
  EXPECT_EQ(DescribeGroup(report.kept->choice.groups[0]), "model.layers.0.mlp.gate_proj, up_proj");
  report.kept->choice.groups.clear();
  EXPECT_EQ(DescribeKept(report), "none");
}

TEST(OutputErrors, ALimitThatDoesNotHoldIsSaidPlainly) {
  RunReport report = FullReport();
  EXPECT_THAT(DescribeLimit(report), HasSubstr("KL 0.0500 is within --max_kl 0.0600"));
  report.evaluation->deployed.kl.mean = 0.0601;
  EXPECT_THAT(DescribeLimit(report), HasSubstr("KL 0.0601 is ABOVE --max_kl 0.0600"));
  report.kept->max_kl.reset();
  EXPECT_EQ(DescribeLimit(report), "");
}

}  // namespace
}  // namespace narrow
