#!/usr/bin/env bash
# Installs the library, builds a program outside of the tree with it, and compares what that program
# makes of a tiny model with what narrow makes of it.
# Usage: consumer_test.sh BUILD_DIR CMAKE CXX
set -euo pipefail
build=$1 cmake=$2 cxx=$3
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$cmake" --install "$build" --component development --prefix "$scratch/usr" >/dev/null 2>&1
(cd "$scratch/usr" && find . -name '*.h') >"$scratch/headers"
[ "$(cat "$scratch/headers")" = ./include/narrow/narrow.h ] ||
  { echo "not one header:"; cat "$scratch/headers"; exit 1; }
# It brings in nothing of other libraries, and nothing of this tree.
echo '#include <narrow/narrow.h>' |
  "$cxx" -std=c++17 -I"$scratch/usr/include" -H -fsyntax-only -xc++ - 2>"$scratch/included"
if grep -E '/include/(fmt|nlohmann|CLI|eigen3|hwy|oneapi|dnnl|pcre2|utf8proc|zstd|yaml|curl)|/src/' \
  "$scratch/included"; then
  echo "the header brings in more than the standard library"
  exit 1
fi

"$cmake" -S "$here/consumer" -B "$scratch/build" -DCMAKE_CXX_COMPILER="$cxx" \
  -DCMAKE_PREFIX_PATH="$scratch/usr" >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
"$cmake" --build "$scratch/build" >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }

cat >"$scratch/config.json" <<'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "intermediate_size": 256,
 "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 258,
 "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 512, "torch_dtype": "bfloat16",
 "hidden_act": "silu", "tie_word_embeddings": false}
JSON
"$build/narrow" synthesize "$scratch/model" --config "$scratch/config.json" >/dev/null 2>&1
export NARROW_DATA_DIR=$scratch HF_HOME=$scratch HF_HUB_OFFLINE=1  # no data set and no model is there
"$scratch/build/consumer" "$scratch/model" "$scratch/by-library"
"$build/narrow" quantize --model_dir "$scratch/model" --output_dir "$scratch/by-program" \
  --kv_cache_dtype fp8 --num_calib_data 8 --seq_len 64 --eval_windows 2 --window_tokens 64 \
  >/dev/null 2>&1
for file in model.safetensors config.json tokenizer.json; do
  cmp "$scratch/by-program/$file" "$scratch/by-library/$file"
done
for scheme in fp8_dynamic fp8_block W8A8 W4A16 W4A16_ASYM MXFP4 MXFP4A16 MXFP8 NVFP4A16; do
  "$build/narrow" quantize --model_dir "$scratch/model" --output_dir "$scratch/by-program-$scheme" \
    --skip_calibration --quant_scheme "$scheme" >/dev/null 2>&1
  for file in model.safetensors config.json; do
    cmp "$scratch/by-program-$scheme/$file" "$scratch/by-library-$scheme/$file"
  done
done
# The command that the card names is the one that the program was asked with.
grep -qF -- "--kv_cache_dtype fp8 --num_calib_data 8 --seq_len 64 --eval_windows 2 --window_tokens 64" \
  "$scratch/by-library/README.md"
"$build/narrow" inspect "$scratch/by-library" >/dev/null 2>&1
