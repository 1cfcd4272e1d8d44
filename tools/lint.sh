#!/usr/bin/env bash
# Format, layers and (unless "fast" is given) clang-tidy over every source of the build.
# Usage: lint.sh BUILD_DIR [fast]
set -euo pipefail
build=$(cd "${1:?usage: lint.sh BUILD_DIR [fast]}" && pwd)
cd "$(dirname "$0")/.."

find src fuzz benchmarks tests -name '*.h' -print0 -o -name '*.cc' -print0 |
  xargs -0 clang-format --dry-run -Werror
python3 tools/check_layers.py
[ "${2:-}" != fast ] || exit 0

python3 - "$build/compile_commands.json" <<'PY' |
import json, os, sys
files = {os.path.normpath(os.path.join(c["directory"], c["file"])) for c in json.load(open(sys.argv[1]))}
print(*sorted(f for f in files if f.startswith(os.getcwd() + "/src/")), sep="\n")
PY
  xargs -n 1 -P "$(nproc)" clang-tidy -p "$build" --quiet --warnings-as-errors='*' 2>&1 |
  grep -v -E '^[0-9]+ warnings? generated\.$|^$' || [ "${PIPESTATUS[1]}" -eq 0 ]
