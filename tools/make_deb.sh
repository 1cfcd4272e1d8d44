#!/usr/bin/env bash
# Makes BUILD_DIR/packages/narrow_VERSION_ARCH.deb out of a finished build, and has lintian look at it.
# The maintainer is $DEBFULLNAME <$DEBEMAIL>, or who made the last commit.
# Usage: make_deb.sh BUILD_DIR
set -euo pipefail
umask 022
build=$(cd "${1:?usage: make_deb.sh BUILD_DIR}" && pwd)
source=$(cd "$(dirname "$0")/.." && pwd)
work=$build/deb
root=$work/debian/narrow
version=$("$build/narrow" --version | cut -d' ' -f2)
arch=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-$(git -C "$source" log -1 --format=%an)} <${DEBEMAIL:-$(git -C "$source" log -1 --format=%ae)}>"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

rm -rf "$work"
mkdir -p "$root/DEBIAN" "$build/packages"
cmake --install "$build" --component program --prefix "$root/usr" --strip >/dev/null
gzip -9n "$root/usr/share/man/man1/narrow.1"
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"

documents=$root/usr/share/doc/narrow
mkdir -p "$documents"
{
  printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n'
  sed -n 's/^Copyright (c) \(.*\)/Copyright: \1/p' "$source/LICENSE"
  printf 'License: Expat\n'
  sed -e '1,/^Copyright/d' -e 's/^$/./' -e 's/^/ /' "$source/LICENSE" | sed '1d'
} >"$documents/copyright"
printf 'narrow (%s) unstable; urgency=medium\n\n  * Release.\n\n -- %s  %s\n' \
  "$version" "$maintainer" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")" |
  gzip -9n >"$documents/changelog.gz"

printf 'Source: narrow\n\nPackage: narrow\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O debian/narrow/usr/bin/narrow | sed -n 's/^shlibs:Depends=//p')
cat >"$root/DEBIAN/control" <<CONTROL
Package: narrow
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(du -k -s --apparent-size "$root/usr" | cut -f1)
Depends: $depends
Recommends: ca-certificates
Section: science
Priority: optional
Description: quantize language models of Hugging Face on the CPU
 narrow turns a checkpoint into a quantized one that vLLM serves: it reads the
 weights layer by layer, calibrates on real text, rounds with error
 compensation, and measures what that cost. Memory follows the size of one
 layer, not of the model.
CONTROL
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

package=$build/packages/narrow_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
lintian --allow-root --fail-on error,warning "$package"
printf '%s\n' "$package"
