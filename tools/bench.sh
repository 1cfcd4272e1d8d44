#!/usr/bin/env bash
# Every figure of README's table, in one run: SIMD loops beside memcpy, tokenizer, safetensors beside
# plain file copies, matrix products beside oneDNN's peak, passes over a model, and the whole job.
# Usage: bench.sh BUILD_DIR
set -euo pipefail
build=$(cd "${1:?usage: bench.sh BUILD_DIR}" && pwd)
tools=$(cd "$(dirname "$0")" && pwd)

section() { printf '\n== %s\n' "$1"; }

section "SIMD loops, one core"
"$build/benchmarks/kernels_bench" --benchmark_min_time=0.2 2>/dev/null
section "Checkpoint reading and writing"
"$build/benchmarks/safetensors_bench"

if ! demo=$("$tools/prepare_demo_model.sh" "$build"); then
  section "Matrix products"
  "$build/benchmarks/throughput_bench"
  echo "bench.sh: the demo model could not be fetched; tokenizer, passes and job are not measured" >&2
  exit 1
fi
model=$(tail -n 1 <<<"$demo")
section "Tokenizer, one thread"
cat "$tools"/../corpus/*/*.txt >"$build/bench-corpus.txt"
"$build/benchmarks/tokenizer_bench" "$model/tokenizer.json" "$build/bench-corpus.txt"
section "Matrix products, and passes over SmolLM2-135M"
"$build/benchmarks/throughput_bench" "$model"
section "From start to written checkpoint, SmolLM2-135M, 128 documents"
"$build/narrow" quantize --model_dir "$model" --output_dir "$build/bench-output" --overwrite \
  --quant_scheme w_fp8_a_fp8 --kv_cache_dtype fp8 --num_calib_data 128 \
  --model_export quark_safetensors --no_weight_matrix_merge --custom_mode fp8 --skip_evaluation
