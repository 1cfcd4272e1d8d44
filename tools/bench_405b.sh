#!/usr/bin/env bash
# Two full-size layers of Llama 3.1 405B with embeddings and head (21 GB, random weights) through
# `narrow plan` and `narrow quantize` under 12 GiB of memory: prediction beside measurement.
# Usage: bench_405b.sh BUILD_DIR
# NARROW_BENCH_DIR     where models go (default: BUILD_DIR/bench-405b; about 45 GB)
# NARROW_BENCH_PRESET  another shape (default: llama-3.1-405b), NARROW_BENCH_BUDGET (default: 12GiB)
set -euo pipefail
build=$(cd "${1:?usage: bench_405b.sh BUILD_DIR}" && pwd)
tools=$(cd "$(dirname "$0")" && pwd)
directory=${NARROW_BENCH_DIR:-$build/bench-405b}
preset=${NARROW_BENCH_PRESET:-llama-3.1-405b}
budget=${NARROW_BENCH_BUDGET:-12GiB}
model=$directory/$preset-2-layers
output=$directory/$preset-2-layers-FP8

mkdir -p "$directory"
if [[ $preset == llama-3.1-405b && ! -d $model ]]; then
  free=$(df --output=avail -B1 "$directory" | tail -n 1)
  if ((free < 45 * 1000 * 1000 * 1000)); then
    echo "bench_405b.sh: $directory has $((free / 1000000000)) GB free, 45 GB are needed;" \
      "set NARROW_BENCH_DIR to a larger disk" >&2
    exit 6
  fi
fi
if [[ ! -d $model ]]; then
  "$build/narrow" synthesize "$model" --preset "$preset" --layers 2
fi

flags=(--model_dir "$model" --output_dir "$output" --overwrite --kv_cache_dtype fp8
  --dataset builtin --eval_data builtin --num_calib_data 16 --seq_len 512 --eval_windows 2
  --memory_budget "$budget" --resume never)
"$build/narrow" plan "${flags[@]}" --json "$directory/plan.json"
exec python3 "$tools/bench_405b_report.py" "$directory" "$output" \
  "$build/narrow" quantize "${flags[@]}"
