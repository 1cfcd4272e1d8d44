#!/bin/sh
# Runs every fuzz target of a libFuzzer build, starting from its corpus, and prints what was run: a
# line for each target with its executions, their rate and the findings. What it learns stays in the
# build directory, and so does the input of a finding, which ends its target and fails the script.
# Usage: tools/fuzz.sh <build directory> [seconds per target, default 60 | -runs=N per target]
#        [target ... | option of libFuzzer ...]
set -eu

build_dir=$(cd "${1:?build directory}" && pwd)
limit=${2:-60}
case $limit in -runs=*) ;; *) limit=-max_total_time=$limit ;; esac
shift
[ $# -eq 0 ] || shift
only=" " options=""
for word in "$@"; do
  case $word in -*) options="$options $word" ;; *) only="$only$word " ;; esac
done

mkdir -p "$build_dir/fuzz-logs"
table=$build_dir/fuzz-logs/table
: >"$table"
while read -r target seeds; do
  [ -n "$target" ] || continue
  [ "$only" = " " ] || case $only in *" $target "*) ;; *) continue ;; esac
  learned=$build_dir/corpus/$target
  log=$build_dir/fuzz-logs/$target.log
  mkdir -p "$learned"
  echo "== $target, $limit"
  found=0
  # shellcheck disable=SC2086  # options are words
  (cd "$build_dir" && "./fuzz/$target" "$limit" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
    -verbosity=0 -print_funcs=0 -print_final_stats=1 $options "$learned" "$seeds" </dev/null) \
    >"$log" 2>&1 || found=1
  [ "$found" -eq 0 ] || cat "$log"
  awk -v target="$target" -v found="$found" '
    /^stat::number_of_executed_units:/ { runs = $2 }
    /^stat::average_exec_per_sec:/ { rate = $2 }
    END { printf "%s %d %d %d\n", target, runs, rate, found }' "$log" >>"$table"
done <"$build_dir/fuzz_targets.txt"

awk 'BEGIN { printf "%-22s %14s %10s %9s\n", "target", "executions", "a second", "findings" }
     { printf "%-22s %14d %10d %9d\n", $1, $2, $3, $4; runs += $2; found += $4 }
     END { printf "%-22s %14d %10s %9d\n", "all", runs, "", found; exit found > 0 }' "$table"
