#include "model/module_names.h"

#include <gtest/gtest.h>

namespace narrow {
namespace {

const Json kConfig = {{"vocab_size", 512},
                      {"num_hidden_layers", 3},
                      {"hidden_size", 128},
                      {"num_attention_heads", 4},
                      {"num_key_value_heads", 2}};

std::string Reason(std::string_view module, int64_t rows = 128, const Json& config = kConfig) {
  return ReasonToStay(module, rows, config).value_or("");
}

TEST(ModuleNames, WhatServersNeverQuantizeStays) {
  EXPECT_EQ(Reason("model.embed_tokens"), "embedding");
  EXPECT_EQ(Reason("model.embed_tokens_per_layer"), "embedding");
  EXPECT_EQ(Reason("lm_head"), "head");
  EXPECT_EQ(Reason("model.layers.1.mlp.gate"), "router");
  EXPECT_EQ(Reason("model.layers.1.block_sparse_moe.router.layer"), "router");
  EXPECT_EQ(Reason("model.layers.1.mlp.shared_expert_gate"), "router");
  EXPECT_EQ(Reason("model.layers.1.self_attn.indexer.wq_b"), "indexer");
  EXPECT_EQ(Reason("model.layers.1.linear_attn.conv1d"), "convolution");
  EXPECT_EQ(Reason("model.vision_tower.layers.0.mlp.fc1"), "vision or audio");
  EXPECT_EQ(Reason("mtp.layers.0.mlp.down_proj"), "next-token prediction");
  EXPECT_EQ(Reason("model.layers.3.mlp.down_proj"), "next-token prediction");
}

TEST(ModuleNames, LinearsDoNot) {
  for (const char* module :
       {"model.layers.2.mlp.down_proj", "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.c_fc",
        "model.layers.0.self_attn.kv_a_proj_with_mqa", "model.layers.0.linear_attn.in_proj_qkvz",
        "model.layers.0.mlp.experts.7.w2", "model.per_layer_model_projection"}) {
    EXPECT_EQ(Reason(module), "") << module;
  }
}

TEST(ModuleNames, RowsTellAnEmbeddingOutsideOfTheLayers) {
  EXPECT_EQ(Reason("output", 512), "as many rows as the vocabulary");
  EXPECT_EQ(Reason("model.layers.0.linear_attn.in_proj_z", 512), "");
  EXPECT_EQ(Reason("output", 512, {{"text_config", {{"vocab_size", 512}}}}),
            "as many rows as the vocabulary");
  EXPECT_EQ(Reason("output", 512, Json::object()), "");
}

TEST(ModuleNames, PlacesInFusedMatrices) {
  const std::optional<FusedPlace> place = FusedPlaceOf("model.layers.0.self_attn.v_proj");
  ASSERT_TRUE(place);
  EXPECT_EQ(place->fused, "model.layers.0.self_attn.qkv_proj");
  EXPECT_EQ(place->place, 2);
  EXPECT_EQ(FusedPlaceOf("model.layers.0.mlp.experts.3.up_proj")->fused,
            "model.layers.0.mlp.experts.3.gate_up_proj");
  EXPECT_FALSE(FusedPlaceOf("model.layers.0.self_attn.o_proj"));
  EXPECT_EQ(FusedPlaceOf("q_proj")->fused, "qkv_proj");
}

TEST(ModuleNames, ExpertsOfALayer) {
  EXPECT_EQ(ExpertsOf("model.layers.0.mlp.experts.11.up_proj"), "model.layers.0.mlp.experts");
  EXPECT_EQ(ExpertsOf("model.layers.0.mlp.shared_experts.up_proj"), "");
  EXPECT_EQ(ExpertsOf("model.layers.0.mlp.experts.gate"), "");
}

TEST(ModuleNames, PartsOfStoredFusedMatrices) {
  EXPECT_EQ(StoredParts("l.0.qkv_proj", 256, kConfig), (std::vector<int64_t>{128, 64, 64}));
  EXPECT_EQ(StoredParts("l.0.gate_up_proj", 704, kConfig), (std::vector<int64_t>{352, 352}));
  EXPECT_EQ(StoredParts("l.0.qkv_proj", 255, kConfig), (std::vector<int64_t>{255}));
  EXPECT_EQ(StoredParts("l.0.qkv_proj", 256, Json::object()), (std::vector<int64_t>{256}));
  EXPECT_EQ(StoredParts("l.0.o_proj", 256, kConfig), (std::vector<int64_t>{256}));
}

}  // namespace
}  // namespace narrow
