#!/bin/sh
# Runs every fuzz target of a libFuzzer build for a while, starting from its corpus. What it learns
# stays in the build directory; a crash stops the run and leaves its input there.
# Usage: tools/fuzz.sh <build directory> [seconds per target, default 60] [target ...]
set -eu

build_dir=$(cd "${1:?build directory}" && pwd)
seconds=${2:-60}
shift
[ $# -eq 0 ] || shift
only=" $* "

while read -r target seeds; do
  [ -n "$target" ] || continue
  [ "$only" = "  " ] || case $only in *" $target "*) ;; *) continue ;; esac
  learned=$build_dir/corpus/$target
  mkdir -p "$learned"
  echo "== $target, $seconds s"
  (cd "$build_dir" && "./fuzz/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
    -rss_limit_mb=2048 -verbosity=0 -print_funcs=0 -print_final_stats=1 "$learned" "$seeds" </dev/null)
done <"$build_dir/fuzz_targets.txt"
