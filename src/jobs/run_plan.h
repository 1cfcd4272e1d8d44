// Plans of jobs that lie on the disk.
#pragma once

#include <set>
#include <string>

#include "jobs/compare.h"
#include "jobs/quantize.h"
#include "plan/plan.h"

namespace narrow {

// For RunQuantize: plans the job, checks disks, and measures the machine for models so large that
// the seconds it takes do not matter. Throws: as MakePlan and CheckDisks.
JobPlan PlanBeforeWork(const QuantizeRequest& request, const ModelSource& model,
                       const std::set<std::string>& excluded, const JobShape& shape,
                       const TokenStream& calibration, const TokenStream* evaluation);

// The same for RunEvaluate, and for RunCompare with the model that is judged (else null).
JobPlan PlanBeforeWork(const EvaluateRequest& request, const ModelSource& model,
                       const ModelSource* judged, const JobShape& shape,
                       const TokenStream& evaluation);
// Sets what is measured beside the evaluation: the attribution, whose windows have
// `attribution_tokens`, and the probe. A job that neither evaluates nor keeps groups measures
// nothing. Texts are in `shape`.
void SetMeasurements(const QuantizeRequest& request, int64_t attribution_tokens, JobShape& shape);

// The same for a comparison, whose texts are in `shape`, with `judged`.
void SetComparison(const CompareRequest& request, const ModelSource& judged,
                   const TokenStream& evaluation, JobShape& shape);

// Models evaluated beside the first one, of a job that quantizes nothing: the second arithmetic of
// attention over an FP8 cache.
int64_t SourceVariants(const ModelSource& model, AttentionFigures attention);

// Of one of so many ranks (base/ranks.h): its share of the texts.
void TakeShareOfTexts(int64_t ranks, JobShape& shape);

JobDirectories DirectoriesOf(const QuantizeRequest& request);

struct PlanRequest {
  QuantizeRequest job;
  enum class Task { kQuantize, kEvaluate } task = Task::kQuantize;
  std::optional<DownloadPlan> download{};  // of a model of the hub
  int64_t ranks = 1;                       // one a machine like this one
  double network = 0;                      // between them, bytes a second
};

// The plan of a job that is only described: config.json and the tensor headers, or config.json
// alone, without weights. Texts are counted when they and a tokenizer are there, and bounded by
// the flags otherwise. Measures the machine. Throws: as RunQuantize does for what it refuses, but
// not for full disks.
JobPlan RunPlan(const PlanRequest& request);

}  // namespace narrow
