#!/usr/bin/env bash
# tools/check_variants.sh accepts a patch that fits and names every one that does not.
# Usage: check_variants_test.sh
set -euo pipefail
check=$(cd "$(dirname "$0")/.." && pwd)/tools/check_variants.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/src" "$scratch/docs" "$scratch/benchmarks/variants"
printf '%s\n' 'int a = 1;' 'int b = 2;' 'int c = 3;' >"$scratch/src/a.cc"
echo '| `tried` | 0.03 |' >"$scratch/docs/accuracy.md"

# verdict NAME FIRST_LINE OLD_LINE: a tree with one patch of that name, and the checker's word on it.
verdict() {
  rm -f "$scratch"/benchmarks/variants/*
  printf '%s\n\n--- a/src/a.cc\n+++ b/src/a.cc\n@@ -1,3 +1,3 @@\n int a = 1;\n-%s\n+int b = 4;\n int c = 3;\n' \
    "$2" "$3" >"$scratch/benchmarks/variants/$1.patch"
  "$check" "$scratch" >/dev/null 2>&1
}

failed=0
verdict tried 'Another b.' 'int b = 2;' || { echo "refused: a patch that applies"; failed=1; }
if verdict tried 'Another b.' 'int b = 3;'; then echo "accepted: another line"; failed=1; fi
if verdict tried '--- a/src/a.cc' 'int b = 2;'; then echo "accepted: no first line"; failed=1; fi
if verdict other 'Another b.' 'int b = 2;'; then echo "accepted: not in the table"; failed=1; fi
cmp -s "$scratch/src/a.cc" <(printf '%s\n' 'int a = 1;' 'int b = 2;' 'int c = 3;') ||
  { echo "changed: the sources"; failed=1; }
exit $failed
