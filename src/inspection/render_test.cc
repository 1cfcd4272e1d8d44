#include <gtest/gtest.h>

#include <cmath>

#include "inspection/inspect.h"
#include "io/json.h"

namespace narrow {
namespace {

InspectionReport Sample() {
  InspectionReport report;
  report.directory = "/m";
  report.model_type = "llama";
  report.quant_method = "fp8";
  report.files = 1;
  report.bytes = 20'000'004;
  report.tensors = {{"a.weight", Dtype::kF8E4M3, {4000, 5000}, 20'000'000, "model.safetensors", {}},
                    {"a.weight_scale", Dtype::kF32, {}, 4, "model.safetensors", {0.015625f}}};
  report.totals = {{Dtype::kF8E4M3, 1, 20'000'000, 20'000'000}, {Dtype::kF32, 1, 1, 4}};
  return report;
}

TEST(RenderInspection, AlignsTheTable) {
  EXPECT_EQ(RenderInspection(Sample()),
            "tensor          dtype    shape            size  file               scale\n"
            "a.weight        F8_E4M3  [4000, 5000]  20.0 MB  model.safetensors\n"
            "a.weight_scale  F32      []                4 B  model.safetensors  0.015625\n"
            "\n"
            "/m: 2 tensors in 1 file, 20.0 MB; model type llama, quantization fp8\n"
            "  F8_E4M3       1 tensors        20000000 elements    20.0 MB\n"
            "  F32           1 tensors               1 elements        4 B\n"
            "no problems found\n");
}

TEST(RenderInspection, ShowsNotesThatAreNoProblems) {
  InspectionReport report = Sample();
  report.notes = {"to be known"};
  EXPECT_NE(RenderInspection(report).find("note: to be known\nno problems found\n"),
            std::string::npos);
  EXPECT_EQ(ParseJson(RenderInspectionJson(report), "report")["notes"].dump(),
            R"(["to be known"])");
}

TEST(RenderInspection, ListsProblemsAndHidesControlCharacters) {
  InspectionReport report = Sample();
  report.tensors[0].name = "\x1B[2Jx\n";
  report.model_type.clear();
  report.quant_method.clear();
  report.problems = {{Severity::kError, "first"}, {Severity::kWarning, "second"}};
  const std::string text = RenderInspection(report);
  EXPECT_EQ(text.find('\x1B'), std::string::npos);
  EXPECT_NE(text.find("?[2Jx?"), std::string::npos);
  EXPECT_NE(text.find("model type unknown, not quantized"), std::string::npos);
  EXPECT_NE(text.find("error: first\nwarning: second\n"), std::string::npos);
  EXPECT_EQ(text.find("no problems"), std::string::npos);
}

TEST(RenderInspectionJson, HoldsEverything) {
  InspectionReport report = Sample();
  report.problems = {{Severity::kError, "first"}};
  report.directory = "/\xFF";
  report.tensors.push_back({"b.weight_scale", Dtype::kF32, {2}, 8, "f", {1.5f, std::nanf("")}});
  const Json json = ParseJson(RenderInspectionJson(report), "report");
  EXPECT_EQ(json["tensors"][0].dump(),
            R"({"name":"a.weight","dtype":"F8_E4M3","shape":[4000,5000],"bytes":20000000,)"
            R"("file":"model.safetensors"})");
  EXPECT_EQ(json["tensors"][1]["scale"], Json(0.015625));
  EXPECT_EQ(json["tensors"][2]["scale"].dump(), "[1.5,null]");
  EXPECT_EQ(json["totals"][1].dump(), R"({"dtype":"F32","tensors":1,"elements":1,"bytes":4})");
  EXPECT_EQ(json["problems"].dump(), R"([{"severity":"error","text":"first"}])");
  EXPECT_EQ(json["bytes"], Json(20'000'004));
}

}  // namespace
}  // namespace narrow
