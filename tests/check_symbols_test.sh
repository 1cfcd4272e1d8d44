#!/usr/bin/env bash
# tools/check_symbols.sh accepts a library that only computes and names every way to print or to exit.
# Usage: check_symbols_test.sh CXX
set -euo pipefail
cxx=$1
check=$(cd "$(dirname "$0")/.." && pwd)/tools/check_symbols.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# verdict BODY: builds a library of one function and asks the checker.
verdict() {
  rm -f "$scratch"/*
  printf '#include <cstdio>\n#include <cstdlib>\n#include <iostream>\n#include <string>\n' \
    >"$scratch/a.cc"
  printf 'std::string Function(int argument) { %s; return std::to_string(argument); }\n' "$1" \
    >>"$scratch/a.cc"
  "$cxx" -std=c++20 -O2 -c "$scratch/a.cc" -o "$scratch/a.o"
  ar rc "$scratch/a.a" "$scratch/a.o"
  "$check" "$scratch/a.a" >/dev/null
}

failed=0
for harmless in 'throw argument' 'char text[9]; std::snprintf(text, 9, "%d", argument)'; do
  verdict "$harmless" || { echo "refused: $harmless"; failed=1; }
done
for offence in 'std::cout << argument' 'std::cerr << argument' 'std::printf("%d", argument)' \
  'std::puts("text")' 'std::fprintf(stderr, "%d", argument)' 'std::exit(argument)' 'std::abort()' \
  'std::quick_exit(1)' 'std::perror("text")'; do
  if verdict "$offence"; then echo "accepted: $offence"; failed=1; fi
done
exit $failed
