#!/usr/bin/env bash
# Installs the packages of `make deb` and `make wheel` where nothing else of narrow is, and runs the demo job
# with each: what they write is what the program of the build writes. The Debian package goes to a minimal
# Debian 12 made by debootstrap (needs root; skipped by name where that cannot be made), the wheel to a new
# virtual environment.
# Usage: check_packages.sh BUILD_DIR
set -euo pipefail
build=$(cd "${1:?usage: check_packages.sh BUILD_DIR}" && pwd)
tools=$(cd "$(dirname "$0")" && pwd)
work=$build/check-packages
deb=$(echo "$build"/packages/narrow_*.deb)
wheel=$(echo "$build"/packages/narrow-*.whl)
{ read -r _; read -r model; } <<<"$("$tools/prepare_demo_model.sh" "$build")"

rm -rf "$work"
mkdir -p "$work/data"
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT

# The demo job as words, for a program, a model and an output.
job() {
  printf '%s\0' "$1" quantize --model_dir "$2" --output_dir "$3" --quant_scheme w_fp8_a_fp8 \
    --kv_cache_dtype fp8 --num_calib_data 128 --model_export quark_safetensors \
    --no_weight_matrix_merge --custom_mode fp8 --eval_windows 4
}

# compare NAME: what NAME's job wrote beside what the build's wrote.
compare() {
  local file
  for file in model.safetensors config.json tokenizer.json; do
    cmp "$work/build/$file" "$work/$1/$file"
  done
  "$build/narrow" inspect "$work/$1" 2>/dev/null | tail -1
}

echo "The program of the build:"
job "$build/narrow" "$model" "$work/build" | NARROW_DATA_DIR=$work/data xargs -0 env >"$work/log" 2>&1
grep 'Perplexity' "$work/log"

echo "The wheel $(basename "$wheel") in a new virtual environment:"
python3 -m venv "$work/env"
"$work/env/bin/pip" --quiet --disable-pip-version-check install --no-index "$wheel"
job narrow "$model" "$work/wheel" |
  xargs -0 env -i PATH="$work/env/bin" NARROW_DATA_DIR="$work/data" >"$work/log" 2>&1
grep 'Perplexity' "$work/log"
compare wheel
wheel_program=$(cd "$work" && echo env/lib/python3*/site-packages/narrow.scripts/narrow)  # what the command starts

# in_root COMMAND...: runs in the clean root, with /proc, the model and the work directory; mounts go with it.
root=$work/root
in_root() {
  unshare --mount --pid --fork bash -euc '
    root=$1 model=$2 work=$3; shift 3
    mount -t proc proc "$root/proc"
    mkdir -p "$root/model" "$root/work"
    mount --bind "$model" "$root/model"
    mount --bind "$work" "$root/work"
    exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
      DEBIAN_FRONTEND=noninteractive NARROW_DATA_DIR=/work/data "$@"' \
    in_root "$root" "$model" "$work" "$@"
}

# Serves nothing, on the loopback address, by https with a certificate of its own; sets server and port.
serve() {
  openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/key.pem" -out "$work/cert.pem" -days 2 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
  python3 - "$work" >"$work/server.log" 2>&1 <<'PYTHON' &
import http.server, os, ssl, sys
os.chdir(sys.argv[1])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('cert.pem', 'key.pem')
server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
with open('port.new', 'w') as file:
    file.write(str(server.server_port))
os.rename('port.new', 'port')
server.serve_forever()
PYTHON
  server=$!
  while [ ! -f "$work/port" ]; do kill -0 "$server"; sleep 0.1; done
  port=$(cat "$work/port")
}

# trusts STATUS: what becomes of a download from the server, by the program of the package and by that of the
# wheel: 6 where its certificate is not known, 3 where it is (there is no such model).
trusts() {
  local program status
  for program in narrow "/work/$wheel_program"; do
    status=0
    in_root env HF_ENDPOINT="https://localhost:$port" "$program" download org/none >"$work/log" 2>&1 || status=$?
    [ "$status" -eq "$1" ] || { echo "$program: status $status, expected $1:"; tail -1 "$work/log"; exit 1; }
  done
}

skip() { echo "Skipped: the Debian package in a clean root ($1)"; exit 0; }
[ "$(id -u)" -eq 0 ] || skip "needs root"
command -v debootstrap >/dev/null || skip "needs debootstrap"
mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME)' | awk '$2 == "bookworm" { print $1; exit }')
[ -n "$mirror" ] || skip "apt has no mirror of bookworm"
archive=$build/bookworm-root.tar  # the root as it was made, for the next time
if [ ! -f "$archive" ]; then
  debootstrap --variant=minbase bookworm "$root" "$mirror" >"$build/debootstrap.log" 2>&1 ||
    skip "debootstrap failed; see $build/debootstrap.log"
  tar -C "$root" --one-file-system -cf "$archive.new" . && mv "$archive.new" "$archive"
else
  mkdir "$root" && tar -C "$root" -xf "$archive"
fi
in_root true 2>/dev/null || skip "no mounts here"

echo "$(basename "$deb") in a minimal Debian 12:"
cp "$deb" "$root/narrow.deb"
cp /etc/resolv.conf "$root/etc/resolv.conf"
for setting in /etc/apt/apt.conf.d/*; do
  grep -qi 'proxy\|verify' "$setting" && cp "$setting" "$root/etc/apt/apt.conf.d/"
done
in_root sh -ec 'apt-get update -qq; apt-get install -y -qq --no-install-recommends /narrow.deb' >"$work/log" 2>&1 ||
  { tail -5 "$work/log"; exit 1; }
job narrow /model /work/deb | in_root xargs -0 env >"$work/log" 2>&1 || { tail -5 "$work/log"; exit 1; }
grep 'Perplexity' "$work/log"
compare deb
serve
trusts 6
for path in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
  mkdir -p "$root/$(dirname "$path")"
  cp "$work/cert.pem" "$root$path"
  trusts 3
  rm "$root$path"
done
echo "certificates are found by package and wheel where Debian, Fedora and Alpine keep them"
in_root bash -ec '
  source /usr/share/bash-completion/completions/narrow
  COMP_WORDS=(narrow quantize --model_d) COMP_CWORD=2
  _narrow
  [ "${COMPREPLY[*]}" = --model_dir ]
  test -f /usr/share/man/man1/narrow.1.gz
  dpkg --verify narrow
  apt-get purge -y -qq narrow >/dev/null 2>&1
  ! ls /usr/bin/narrow /usr/share/doc/narrow 2>/dev/null'
echo "completed in bash, verified by dpkg, removed without a rest"
