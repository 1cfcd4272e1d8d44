#!/usr/bin/env bash
# Installs Python's huggingface_hub and pyarrow from the package index into BUILD_DIR/hub-packages, for the
# tests that exchange caches and Parquet files with them. What is there already is used again. Prints the directory.
# Usage: prepare_hub_packages.sh BUILD_DIR
set -euo pipefail
packages=$(cd "${1:?usage: prepare_hub_packages.sh BUILD_DIR}" && pwd)/hub-packages
if [ ! -d "$packages" ]; then
  work=$(mktemp -d "$packages-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip install --quiet --disable-pip-version-check --only-binary :all: --target "$work" \
    huggingface_hub==2.4.0 pyarrow==26.0.1 >&2
  mv -T "$work" "$packages"
fi
printf '%s\n' "$packages"
