#include "stream/pass_end.h"

#include <optional>
#include <utility>

#include "base/phase_timer.h"
#include "model/stored_layer.h"
#include "stream/losses.h"
#include "stream/networks.h"

namespace narrow {
namespace {

// Copies a tensor to the output. Throws: kNumeric when it holds NaN or infinity.
void CopyChecked(const PassRequest& request, const std::string& name) {
  const Dtype dtype = request.checkpoint->Get(name).entry.dtype;
  request.output->Copy(
      name, [&](int64_t, std::span<const std::byte> rows) { CheckFinite(dtype, rows, name); });
}

// The final norm of a model, and its head.
struct EndOf {
  explicit EndOf(const PassModel& pass_model)
      : model(pass_model),
        spec(model.source.family->model(model.source.config)),
        stored(ReadNorm(*model.source.checkpoint, spec.final_norm)),
        norm(MakeNorm(spec.final_norm, stored)) {}

  ModelHead Head() const {
    const PassSource& source = model.source;
    return {source.checkpoint, source.family, &source.config, &norm,
            model.tied_head ? &*model.tied_head : nullptr};
  }

  const PassModel& model;
  ModelSpec spec;
  StoredNorm stored;
  Norm norm;
};

// Losses of every evaluated token, and what quantization did to them.
void EvaluateStreams(const PassRequest& request, LossRequest losses, std::list<PassStream>& streams,
                     ProgressSink& progress, PassResult& result) {
  const PhaseTimer timer(result.evaluation_seconds);
  losses.compute = request.compute;
  losses.head_slice_rows = request.plan.head_slice_rows;
  losses.tokens = request.evaluation;
  losses.parts = streams.front().parts;
  losses.hidden = HiddenOf(streams, Use::kEvaluation);
  losses.partial_hidden = HiddenOf(streams, Use::kAttribution);
  losses.partial_of_last = StagesAmongEvaluated(request);
  Losses found = ComputeLosses(losses, progress);
  result.stored_window_nll = std::move(found.window_nll);
  result.evaluation_flops += found.flops;
  auto summary = found.variants.begin();
  for (const PassStream& stream : streams) {
    if (stream.network->summary != nullptr) {
      result.*stream.network->summary = std::move(*summary++);
    }
  }
  if (losses.partial_hidden.empty()) return;
  result.part_costs =
      AttributeCost({kStages.begin(), kStages.begin() + std::ssize(found.partial)}, found.partial);
  result.attributed_windows = std::ssize(losses.partial_sequences);
}

}  // namespace

void EndPass(const PassRequest& request, const std::vector<PassModel>& models,
             const AttributedWindows& attributed, std::list<PassStream>& streams,
             const char* how_to_continue, ProgressSink& progress, PassResult& result) {
  std::erase_if(streams, [](const PassStream& stream) { return !stream.evaluates(); });
  const EndOf end(models.front());
  if (request.output != nullptr) {
    const StoredNorm& norm = end.stored;
    request.output->WriteUnchanged(norm.weight.name, 0, norm.weight.bytes.span());
    if (norm.bias) request.output->WriteUnchanged(norm.bias->name, 0, norm.bias->bytes.span());
  }
  const bool copies_head = request.output != nullptr && !models.front().ties_head();
  if (!streams.empty()) {
    LossRequest losses;
    losses.head = end.Head();
    std::optional<EndOf> judged;
    if (models.size() > 1) losses.variants_head = judged.emplace(models.back()).Head();
    losses.copy_to = copies_head ? request.output : nullptr;
    losses.partial_sequences = attributed.windows;
    losses.partial_ranks = attributed.ranks;
    losses.how_to_continue = how_to_continue;
    EvaluateStreams(request, std::move(losses), streams, progress, result);
  } else if (copies_head) {
    CopyChecked(request, end.spec.lm_head);
  }
  if (request.output == nullptr) return;
  for (const OtherTensor& other : request.config.others) request.output->Copy(other.name, {});
}

}  // namespace narrow
