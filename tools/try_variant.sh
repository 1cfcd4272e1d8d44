#!/usr/bin/env bash
# What a variant of docs/accuracy.md costs: the sources changed by benchmarks/variants/NAME.patch, built
# without tests, and the command of that page run with them on SmolLM2-135M-Instruct.
# NAME none is the tree as it is, NAME @COMMIT an earlier version of it out of git. Flags of `narrow
# quantize` that are given come after those of the command and win.
# Prints one line; BUILD_DIR/variants/NAME keeps the log and the report. What variants have in common
# is compiled once, so that they run one at a time.
# Usage: try_variant.sh NAME [BUILD_DIR] [quantize flag ...]     (BUILD_DIR: build)
set -euo pipefail
name=${1:?usage: try_variant.sh NAME [BUILD_DIR] [quantize flag ...]}
shift
build=build
if [[ $# -gt 0 && $1 != -* ]]; then
  build=$1
  shift
fi
[ -x "$build/narrow" ] || { echo "try_variant.sh: no $build/narrow; run make first" >&2; exit 3; }
build=$(cd "$build" && pwd)
tools=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$tools")
patch=$root/benchmarks/variants/$name.patch
parts=(CMakeLists.txt cmake corpus src)

work=$build/variants
source=$work/source     # what is compiled; files that do not change keep their time
changed=$work/changed   # what it is to become
result=$work/${name#@}
rm -rf "$changed" "$result"
mkdir -p "$source" "$changed" "$result"
case $name in
  none) cp -R "${parts[@]/#/$root/}" "$changed" ;;
  @*) git -C "$root" archive "${name#@}" "${parts[@]}" | tar -x -C "$changed" ;;
  *)
    if [ ! -f "$patch" ]; then
      echo "try_variant.sh: expected none, @COMMIT or one of:" "$root"/benchmarks/variants/*.patch >&2
      exit 2
    fi
    cp -R "${parts[@]/#/$root/}" "$changed"
    patch --silent --strip=1 --fuzz=0 --directory="$changed" <"$patch"
    ;;
esac
files() { (cd "$1" && find . -type f); }
files "$changed" | while IFS= read -r file; do
  cmp --silent "$changed/$file" "$source/$file" || install -D -m 644 "$changed/$file" "$source/$file"
done
files "$source" | while IFS= read -r file; do
  [ -e "$changed/$file" ] || rm "$source/$file"
done
rm -rf "$changed"

model=$("$tools/prepare_demo_model.sh" "$build" | tail -n 1)
if ! { cmake -S "$source" -B "$work/build" -G Ninja -DNARROW_DEVELOPER=OFF &&
  cmake --build "$work/build" --target narrow; } >"$result/build.log" 2>&1; then
  tail -n 30 "$result/build.log" >&2
  exit 1
fi
program=$work/build/narrow
status=0
"$program" quantize --model_dir "$model" --output_dir "$result/checkpoint" --overwrite \
  --resume never --kv_cache_dtype fp8 --num_calib_data 128 --eval_windows 8 --attribution_windows 8 \
  "$@" >"$result/quantize.log" 2>&1 || status=$?
if ((status != 0)); then
  tail -n 5 "$result/quantize.log" >&2
  exit "$status"
fi
mv "$result/checkpoint/narrow-report.json" "$result"
rm -rf "$result/checkpoint"
python3 - "$name" "$result/narrow-report.json" <<'PYTHON'
import json
import sys

with open(sys.argv[2], encoding='utf-8') as report:
    evaluation = json.load(report)['evaluation']


def figure(estimate):
    return f"{estimate['mean']:.5f} ± {estimate['standard_error']:.5f}"


deployed = evaluation['divergence']['deployed']
parts = ', '.join(f"{part['part']} {figure(part['kl_added'])}"
                  for part in evaluation['attribution']['parts'])
print(f"{sys.argv[1]}: KL {figure(deployed['kl'])}, loss {figure(deployed['nll_increase'])}; "
      f"KL added by {parts}")
PYTHON
