#!/usr/bin/env bash
# Installs what the build needs from Debian 12, and only what is missing; says nothing when nothing is.
# Usage: setup.sh [build] [lint] [fuzz] [package] [mpi]     (as root, or through sudo)
set -euo pipefail

# ocl-icd-opencl-dev: the CMake package of libdnnl-dev asks for OpenCL, which the machine code only links.
packages=(g++ cmake ninja-build make pkg-config ca-certificates openssl zsh
          libdnnl-dev ocl-icd-opencl-dev libhwy-dev libpcre2-dev libutf8proc-dev nlohmann-json3-dev libcli11-dev libfmt-dev libzstd-dev libyaml-dev libeigen3-dev
          libcurl4-openssl-dev libssl-dev libsnappy-dev
          libgtest-dev libgmock-dev libbenchmark-dev ccache python3 python3-pip)
for part in "$@"; do
  case "$part" in
    build) ;;
    lint) packages+=(git clang-format clang-tidy libomp-dev) ;;
    fuzz) packages+=(clang libclang-rt-dev libomp-dev) ;;
    package) packages+=(git dpkg-dev lintian debootstrap python3-venv) ;;
    mpi) packages+=(libopenmpi-dev openmpi-bin iproute2) ;;
    *) echo "setup.sh: unknown part '$part'; expected build, lint, fuzz, package or mpi" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

run=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: needs root or sudo to install: ${missing[*]}" >&2
    exit 1
  fi
  run=(sudo)
fi
echo "Installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${run[@]}" apt-get update -qq
"${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
