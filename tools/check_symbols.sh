#!/usr/bin/env bash
# Checks that no module library prints or ends the process: only the command line interface does.
# Usage: check_symbols.sh LIBRARY.a ...
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: check_symbols.sh LIBRARY.a ..." >&2; exit 2; }

# Whole names as the linker asks for them. snprintf is fine: it writes to memory.
banned='std::(cout|cerr|clog)|stdout|stderr|(__)?v?f?printf(_chk)?|f?puts|f?putc|putchar|perror'
banned="$banned"'|exit|_exit|_Exit|quick_exit|abort|fmt::v[0-9]+::v?print\(.*'
status=0
for library in "$@"; do
  if ! symbols=$(nm -C -u "$library" 2>&1); then
    printf '%s\n' "$symbols" >&2
    exit 2
  fi
  if found=$(grep -E "^ +[Uw] ($banned)\$|^[^ ]+:\$" <<<"$symbols" | grep -B1 -E '^ '); then
    printf '%s:\n%s\n' "$library" "$found"
    status=1
  fi
done
exit $status
