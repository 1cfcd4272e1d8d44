#!/usr/bin/env bash
# One dense and two expert layers of DeepSeek-V3 at full size, stored in FP8 blocks (27 GB, random weights), through
# `narrow plan` and `narrow quantize` to MXFP4 under 6 GiB of memory: prediction beside measurement. Both models are
# deleted at the end.
# Usage: bench_671b.sh BUILD_DIR
# NARROW_BENCH_DIR      where models go (default: BUILD_DIR/bench-671b; 50 GB free)
# NARROW_BENCH_BUDGET   default: 6GiB
# NARROW_BENCH_SAMPLES  of 512 calibration tokens (default: 16), NARROW_BENCH_ALGO (default: none; or gptq)
# NARROW_BENCH_EXPERTS  of 256 in a layer, for a smaller run whose extrapolation says so
set -euo pipefail
build=$(cd "${1:?usage: bench_671b.sh BUILD_DIR}" && pwd)
tools=$(cd "$(dirname "$0")" && pwd)
directory=${NARROW_BENCH_DIR:-$build/bench-671b}
budget=${NARROW_BENCH_BUDGET:-6GiB}
samples=${NARROW_BENCH_SAMPLES:-16}
algorithm=${NARROW_BENCH_ALGO:-none}
experts=${NARROW_BENCH_EXPERTS:-256}
model=$directory/deepseek-v3-3-layers
output=$directory/deepseek-v3-3-layers-MXFP4

mkdir -p "$directory"
free=$(df --output=avail -B1 "$directory" | tail -n 1)
if ((experts == 256 && free < 50 * 1000 * 1000 * 1000)); then
  echo "bench_671b.sh: $directory has $((free / 1000000000)) GB free, 50 GB are needed;" \
    "set NARROW_BENCH_DIR to a larger disk" >&2
  exit 6
fi
trap 'rm -rf "$model" "$output" "$directory"/.deepseek-v3-3-layers*' EXIT

# Source: config.json of deepseek-ai/DeepSeek-V3, with one dense layer of its three.
cat >"$directory/config.json" <<JSON
{"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
 "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 3,
 "first_k_dense_replace": 1, "num_nextn_predict_layers": 0, "num_attention_heads": 128,
 "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
 "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280, "n_routed_experts": $experts,
 "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4,
 "norm_topk_prob": true, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
 "topk_method": "noaux_tc", "moe_layer_freq": 1, "attention_bias": false, "hidden_act": "silu",
 "tie_word_embeddings": false, "max_position_embeddings": 163840, "rms_norm_eps": 1e-06,
 "rope_theta": 10000,
 "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
                  "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096},
 "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                         "weight_block_size": [128, 128]}}
JSON
rm -rf "$model" "$output"
"$build/narrow" synthesize "$model" --config "$directory/config.json"

flags=(--model_dir "$model" --output_dir "$output" --dataset builtin --eval_data builtin
  --num_calib_data "$samples" --seq_len 512 --eval_windows 2 --window_tokens 512
  --quant_algo "$algorithm" --memory_budget "$budget" --resume never)
"$build/narrow" plan "${flags[@]}" --json "$directory/plan-fp8.json" >"$directory/plan-fp8.txt"
"$build/narrow" plan "${flags[@]}" --quant_scheme MXFP4 --json "$directory/plan.json"
python3 "$tools/bench_671b_report.py" "$directory" "$output" \
  "$build/narrow" quantize "${flags[@]}" --quant_scheme MXFP4
