#!/usr/bin/env bash
# Makes BUILD_DIR/packages/narrow_VERSION_ARCH.deb out of a finished build, and narrow-mpi_VERSION_ARCH.deb where
# narrow-mpi was built, and has lintian look at them.
# The maintainer is $DEBFULLNAME <$DEBEMAIL>, or who made the last commit.
# Usage: make_deb.sh BUILD_DIR
set -euo pipefail
umask 022
build=$(cd "${1:?usage: make_deb.sh BUILD_DIR}" && pwd)
source=$(cd "$(dirname "$0")/.." && pwd)
work=$build/deb
version=$("$build/narrow" --version | cut -d' ' -f2)
arch=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-$(git -C "$source" log -1 --format=%an)} <${DEBEMAIL:-$(git -C "$source" log -1 --format=%ae)}>"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

rm -rf "$work"
mkdir -p "$work/debian" "$build/packages"

# write_documents PACKAGE: its copyright and its changelog.
write_documents() {
  local documents=$work/debian/$1/usr/share/doc/$1
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
}

# libraries_of PACKAGE: the packages that its program of the same name is linked with.
libraries_of() {
  (cd "$work" && dpkg-shlibdeps -O "debian/$1/usr/bin/$1" | sed -n 's/^shlibs:Depends=//p')
}

# make_package PACKAGE RELATIONS DESCRIPTION: of what lies in its tree. Prints the path of the package.
make_package() {
  local root=$work/debian/$1 package=$build/packages/$1_${version}_$arch.deb
  mkdir -p "$root/DEBIAN"
  cat >"$root/DEBIAN/control" <<CONTROL
Package: $1
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(du -k -s --apparent-size "$root/usr" | cut -f1)
$2
Section: science
Priority: optional
Description: $3
CONTROL
  (cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
  find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
  lintian --allow-root --fail-on error,warning "$package"
  printf '%s\n' "$package"
}

printf 'Source: narrow\n\nPackage: narrow\nArchitecture: any\n\nPackage: narrow-mpi\nArchitecture: any\n' \
  >"$work/debian/control"

root=$work/debian/narrow
cmake --install "$build" --component program --prefix "$root/usr" --strip >/dev/null
gzip -9n "$root/usr/share/man/man1/narrow.1"
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
write_documents narrow
make_package narrow "Depends: $(libraries_of narrow)
Recommends: ca-certificates" "quantize language models of Hugging Face on the CPU
 narrow turns a checkpoint into a quantized one that vLLM serves: it reads the
 weights layer by layer, calibrates on real text, rounds with error
 compensation, and measures what that cost. Memory follows the size of one
 layer, not of the model."

# A package of its own, so that narrow needs no MPI.
if [ -x "$build/narrow-mpi" ]; then
  root=$work/debian/narrow-mpi
  install -D -m 755 -s "$build/narrow-mpi" "$root/usr/bin/narrow-mpi"
  mkdir -p "$root/usr/share/man/man1"
  printf '.so man1/narrow.1\n' | gzip -9n >"$root/usr/share/man/man1/narrow-mpi.1.gz"
  write_documents narrow-mpi
  make_package narrow-mpi "Depends: narrow (= $version), openmpi-bin, $(libraries_of narrow-mpi)" \
    "quantize language models on several machines
 narrow-mpi is narrow for mpirun and srun: its jobs are divided over the ranks
 of an MPI job, on one machine or several, and write the same bytes for any
 number of them."
fi
