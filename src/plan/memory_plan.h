// How much memory a job needs, part by part, and how to run it inside a budget. Pure arithmetic:
// the sums of docs/memory.md over what each part of the program says it holds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/model_source.h"
#include "quantization/layer_quantizer.h"
#include "stream/streaming_pass.h"
#include "tensor/compute_type.h"

namespace narrow {

// What decides the memory of a job.
struct JobShape {
  const ModelFamily* family = nullptr;
  DecoderConfig config;
  ComputeType compute = ComputeType::kBfloat16;
  Dtype stored = Dtype::kBF16;  // of the linears in the checkpoint
  int64_t threads = 1;
  // Several that share the job (base/ranks.h): tokens, memory and time are those of one of them.
  int64_t ranks = 1;
  // Whose layers take turns: 2 where one is compared with another. `config` is that of the first.
  int64_t checkpoints = 1;
  bool judged_own_head = false;  // that of the second is no embedding, whatever the first's is
  int64_t calibration_tokens = 0;
  int64_t evaluation_tokens = 0;
  int64_t longest_sequence = 0;     // of both texts
  int64_t evaluation_variants = 0;  // models evaluated beside the original
  bool own_weight_scales = false;   // one of them is that with every matrix at its own scale
  bool both_attentions = false;     // two of them differ in the arithmetic of attention
  // Tokens of the evaluation that go through `attribution_variants` partly quantized models, too.
  int64_t attribution_tokens = 0;
  int64_t attribution_variants = 0;
  int64_t probe_tokens = 0;  // on which the output errors of layers are measured
  RoundingAlgorithm rounding = RoundingAlgorithm::kNearest;
  HeadBasis head_basis = HeadBasis::kOriginal;
  std::optional<SchemeAssignment> schemes;  // by which weights are quantized that are data
  int64_t resident_before_bytes =
      0;  // of the process when the plan is made: program, tokenizer, texts

  // The one with the most weights, among those with experts where there are any; of equal ones the
  // first.
  LayerSpec layer() const;
  // One of each kind: layers of equal products, with experts or without.
  std::vector<LayerSpec> kinds() const;
};

// What memory is for; Name has the words.
enum class MemoryUse {
  kProgram,
  kSlack,
  kHiddenStates,
  kTokenPlaces,
  kStoredEmbedding,
  kHeadPacking,
  kLayer,
  kRewriting,
  kReadAhead,
  kBatch,
  kTiles,
  kProbe,
  kStatistics,
  kBasis,
  kStoredLayer,
  kLayerTiles,
  kHead,
  kStoredHead,
  kNorms,
  kHeadPackingOrNorms,
  kLogits,
  kTokenSums,
};
const char* Name(MemoryUse use);

struct MemoryPart {
  MemoryUse use = MemoryUse::kProgram;
  int64_t bytes = 0;
};
int64_t Total(const std::vector<MemoryPart>& parts);

// Memory of the phases that can be the largest, at one choice of PassPlan.
struct MemoryEstimate {
  std::vector<MemoryPart> embedding;  // while the embedding is copied and looked up
  std::vector<MemoryPart> layers;     // while layers run
  std::vector<MemoryPart> head;       // while losses are computed, or the head is copied
  int64_t peak_bytes = 0;
};
// `kinds`: of the shape.
MemoryEstimate EstimateMemory(const JobShape& shape, const std::vector<LayerSpec>& kinds,
                              const PassPlan& plan, int64_t hessian_block_columns);

struct MemoryChoice {
  PassPlan plan;
  int64_t hessian_block_columns = 0;
  int64_t head_slices = 1;  // of lm_head, one at a time in memory
  MemoryEstimate estimate;
};

// The smallest budget ChoosePassPlan accepts, and with it any larger one.
int64_t SmallestBudget(const JobShape& shape);

// The fastest way to run that fits `budget_bytes`; the smaller number of slices of lm_head counts
// less than hidden states in memory, and a tied head is kept where that costs nothing else. Throws:
// kMemoryBudget naming the smallest budget that would do.
MemoryChoice ChoosePassPlan(const JobShape& shape, int64_t budget_bytes);

// A job over these texts, each of which may be null, `quantization` too (evaluation alone).
JobShape ShapeOf(const ModelSource& model, ComputeType compute,
                 const LayerQuantizationOptions* quantization, const TokenStream* calibration,
                 const TokenStream* evaluation);

// 80 % of the memory that is available, and what the process has already.
int64_t DefaultMemoryBudget();

// "memory: at most 1.2 GiB; hidden states in memory; next layer read ahead".
std::string DescribeChoice(const MemoryChoice& choice);

// Tokens on which partly quantized models are compared with the original.
int64_t AttributionTokens(const JobShape& shape);

// Tokens of the evaluation in all partly quantized models together; 0 without evaluation.
int64_t AttributedTokens(const JobShape& shape);

// Tokens of the evaluation in all models together.
int64_t EvaluatedTokens(const JobShape& shape);

// Experts and their weights for every token of every text: in memory wherever hidden states are.
int64_t RouteBytes(const JobShape& shape);

// What quantizing takes of a job's options.
LayerQuantizationOptions OptionsOf(const JobShape& shape, int64_t hessian_block_columns);

// How often the texts pass by the experts of a layer, some of them at a time; 0 without experts.
int64_t ExpertPasses(const JobShape& shape, const PassPlan& plan, int64_t hessian_block_columns);

// Whether experts that are quantized are read twice: not all are in memory together.
bool ReadsExpertsTwice(const JobShape& shape, const PassPlan& plan, int64_t hessian_block_columns);

// Columns of the widest input of a layer's linears.
int64_t WidestInput(const LayerSpec& layer);

// Bytes written to the work directory per layer when hidden states spill, all streams together.
int64_t HiddenStateBytes(const JobShape& shape);

// So many rows of lm_head, packed, of all checkpoints.
int64_t HeadBytes(const JobShape& shape, int64_t rows);

// The head is the embedding and stays in memory from its reading to the losses.
bool KeepsTiedHead(const JobShape& shape, const PassPlan& plan);

// The heads of K and V are rounded in a basis of their own, where the shape allows one.
bool FitsHeadBasis(const JobShape& shape);

// bf16 operands do not hold F16 and F32 weights exactly: what was read ahead of those stays beside
// the packed ones until they are quantized, and the rest is read again.
bool KeepsStoredWeights(const JobShape& shape);

// Slices of lm_head a plan makes, one after the other in memory; hidden states are read for each.
int64_t HeadSlices(const DecoderConfig& config, const PassPlan& plan);

}  // namespace narrow
