#!/usr/bin/env bash
# Checks that every benchmarks/variants/*.patch says what it tries, applies to the sources as they are
# and has its row in docs/accuracy.md.
# Usage: check_variants.sh [SOURCE_DIR]
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

status=0
fault() { echo "$1"; status=1; }
for patch in benchmarks/variants/*.patch; do
  name=$(basename "$patch" .patch)
  [[ $(head -n 1 "$patch") == [A-Z0-9]*\ * ]] || fault "$patch: does not begin with what it tries"
  patch --dry-run --silent --strip=1 --fuzz=0 --force <"$patch" || fault "$patch: does not apply"
  grep -qF "\`$name\`" docs/accuracy.md || fault "$patch: not in docs/accuracy.md"
done
exit $status
