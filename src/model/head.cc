#include "model/head.h"

#include "base/error.h"
#include "model/missing_tensor.h"

namespace narrow {
std::vector<std::string> SettleHead(const ModelFamily& family, DecoderConfig& config,
                                    CheckpointReader& checkpoint) {
  const std::string head = family.model(config).lm_head_module + ".weight";
  const std::string embedding = family.model(config).embedding;
  const bool has_head = checkpoint.Find(head) != nullptr;
  const bool has_embedding = checkpoint.Find(embedding) != nullptr;
  const std::string what = checkpoint.directory().string();
  if (config.lm_head == DecoderConfig::LmHead::kOwn) {
    if (has_head == has_embedding) return {};
    const std::string& missing = has_head ? embedding : head;
    if (checkpoint.absent().contains(missing) || ExplainMissing(checkpoint, missing)) {
      FailMissingTensor(checkpoint, missing);
    }
    Fail(ErrorCode::kCorruptInput,
         "{}: the checkpoint has no tensor {}, only {}, and config.json does not tie the two; if "
         "they are one matrix, set \"tie_word_embeddings\": true in config.json",
         what, missing, has_head ? head : embedding);
  }
  if (!has_head) return {};
  if (!has_embedding) {
    checkpoint.Rename(head, embedding);
    return {
        fmt::format("{} is stored under the name of the head alone, {}; config.json ties the "
                    "two, so it is both",
                    embedding, head)};
  }
  if (checkpoint.SameContents(embedding, head)) return {};
  config.lm_head = DecoderConfig::LmHead::kOwn;
  return {fmt::format(
      "config.json ties {} to {}, but both are stored and differ: the stored head is used, as "
      "transformers 5 and vLLM 0.32 do; older ones drop it. Set \"tie_word_embeddings\": false in "
      "config.json",
      head, embedding)};
}

}  // namespace narrow
