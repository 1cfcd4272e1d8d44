#!/usr/bin/env bash
# Format, layers, sizes and (unless "fast" is given) clang-tidy over every source of the program.
# Usage: lint.sh BUILD_DIR [fast]
set -euo pipefail
build=$(cd "${1:?usage: lint.sh BUILD_DIR [fast]}" && pwd)
cd "$(dirname "$0")/.."

find src fuzz benchmarks tests -name '*.h' -print0 -o -name '*.cc' -print0 |
  xargs -0 clang-format --dry-run -Werror
python3 tools/check_layers.py
python3 tools/check_shape.py
[ "${2:-}" != fast ] || exit 0

# clang 14 cannot construct the nested structs of RunReport in an optional, so one file is left out.
git ls-files 'src/*.cc' | grep -v -e '_test\.cc$' -e '^src/jobs/run_report\.cc$' |
  xargs -n 1 -P "$(nproc)" clang-tidy -p "$build" --quiet --warnings-as-errors='*' 2>&1 |
  grep -v -E '^[0-9]+ warnings? generated\.$|^$' || [ "${PIPESTATUS[1]}" -eq 0 ]
