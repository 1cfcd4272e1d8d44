// Every byte of the weights is read once, for calibration, quantization, copying and all
// evaluations together.
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <utility>

#include "io/scratch_directory.h"
#include "kernels/products_test.h"
#include "model/model_source.h"
#include "quantization/layer_probe.h"
#include "stream/output_checkpoint.h"
#include "stream/streaming_pass.h"
#include "tests/support/tiny_model.h"

namespace narrow {
namespace {

class ReadsOnce : public TestWithProducts<Bfloat16> {
 protected:
  void Open(const TinyModel& tiny) {
    WriteTinyModel(scratch_.path() / "model", tiny);
    model_ = OpenModel(scratch_.path() / "model", WeightState::kOriginal);
    std::mt19937 random(5);
    for (TokenStream* stream : {&calibration_, &evaluation_}) {
      for (int text = 0; text < 3; ++text) {
        std::vector<int32_t> tokens(50);
        for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 258);
        stream->Append(tokens);
      }
    }
    probe_ = ProbeOf(calibration_);
  }

  // The bytes read by a whole job; `plan` says how memory is used.
  int64_t BytesRead(const PassPlan& plan, std::set<std::string> excluded = {}) {
    PassRequest request;
    request.checkpoint = model_.checkpoint.get();
    request.family = model_.family;
    request.config = model_.config;
    request.compute = ComputeType::kBfloat16;
    request.calibration = &calibration_;
    request.evaluation = &evaluation_;
    request.attribution_windows = 2;
    request.probe = &probe_;
    request.quantization.emplace();
    request.quantization->scheme = &FindQuantizationScheme("fp8");
    request.quantization->cache = CacheScheme::kFp8;
    request.quantization->excluded = std::move(excluded);
    request.plan = plan;
    request.work_directory = scratch_.path();
    std::filesystem::create_directory(scratch_.path() / "output");
    OutputCheckpoint output(*model_.checkpoint, *model_.family, model_.config,
                            *request.quantization, {&FindExportFormat("quark"), 5000},
                            scratch_.path() / "output");
    request.output = &output;
    const int64_t before = model_.checkpoint->traffic().bytes;
    SilentProgress progress;
    RunStreamingPass(request, progress);
    output.Finish();
    return model_.checkpoint->traffic().bytes - before;
  }

  int64_t BytesOfWeights() const {
    int64_t bytes = 0;
    for (const CheckpointReader::TensorLocation& tensor : model_.checkpoint->tensors()) {
      bytes += tensor.entry.bytes();
    }
    return bytes;
  }
  int64_t BytesOfEmbedding() const {
    return model_.checkpoint->Get(model_.family->model(model_.config).embedding).entry.bytes();
  }

  ScratchDirectory scratch_;
  ModelSource model_;
  TokenStream calibration_, evaluation_, probe_;
};

TEST_F(ReadsOnce, WithBiasesAndALinearThatIsKept) {
  for (const Dtype dtype : {Dtype::kBF16, Dtype::kF16, Dtype::kF32}) {
    SCOPED_TRACE(Name(dtype));
    Open({.dtype = dtype,
          .attention_bias = TinyModel::Presence::kPresent,
          .mlp_bias = TinyModel::Presence::kPresent});
    EXPECT_EQ(BytesRead({}, {"model.layers.1.mlp.down_proj"}), BytesOfWeights());
    // What is kept is in the output as it was.
    std::filesystem::copy(scratch_.path() / "model/config.json", scratch_.path() / "output");
    const CheckpointReader written(scratch_.path() / "output");
    for (const char* const name :
         {"model.layers.1.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.bias",
          "model.layers.0.self_attn.q_proj.bias", "model.norm.weight",
          "model.layers.0.input_layernorm.weight", "model.embed_tokens.weight", "lm_head.weight"}) {
      const auto bytes_of = [&](const CheckpointReader& checkpoint) {
        const CheckpointReader::TensorLocation& location = checkpoint.Get(name);
        std::vector<std::byte> bytes(static_cast<std::size_t>(location.entry.bytes()));
        checkpoint.Read(location, bytes);
        return bytes;
      };
      EXPECT_EQ(bytes_of(written), bytes_of(*model_.checkpoint)) << name;
    }
    std::filesystem::remove_all(scratch_.path() / "output");
  }
}

TEST_F(ReadsOnce, AlsoFromLittleMemory) {
  Open({});
  EXPECT_EQ(BytesRead({.batch_rows = 64,
                       .hidden_states = Placement::kFile,
                       .read_ahead_bytes = 0,
                       .expert_bytes = 1,
                       .head_slice_rows = 1,
                       .tied_head = TiedHead::kReadAgain}),
            BytesOfWeights());
}

// F16 weights are not exactly bf16 ones: where there is no room to keep them as they are stored
// they are read again to be measured and to be rounded, those of o also for the basis of the heads.
TEST_F(ReadsOnce, NotF16WithoutRoomForIt) {
  Open({.dtype = Dtype::kF16});
  const int64_t layers = 2 * (64 * (64 + 2 * 32 + 64) + 3 * 64 * 96) * 2;
  const int64_t attention_output = 2 * 64 * 64 * 2;
  PassPlan plan;
  plan.read_ahead_bytes = 0;
  EXPECT_EQ(BytesRead(plan), BytesOfWeights() + 2 * layers + attention_output);
}

// A tied head stays in memory, or, where a plan has no room for it, is read as the head again.
TEST_F(ReadsOnce, ATiedHeadWhereItIsKept) {
  Open({.lm_head = TinyModel::Presence::kAbsent});
  EXPECT_EQ(BytesRead({}), BytesOfWeights());
  std::filesystem::remove_all(scratch_.path() / "output");
  PassPlan again;
  again.tied_head = TiedHead::kReadAgain;
  EXPECT_EQ(BytesRead(again), BytesOfWeights() + BytesOfEmbedding());
}

}  // namespace
}  // namespace narrow
