#!/bin/sh
# Fills the project-local tool folder from pinned, hashed Python packages. No root, nothing outside .tools.
#   .ci/tools.sh          what the main job needs
#   .ci/tools.sh extra    also two older CPU plugins for the ABI tests
#   .ci/tools.sh clients  also the HTTP clients that test the server (Python 3.11 to 3.13)
#   .ci/tools.sh runbooks also what checks the TPU runbooks (Python 3.11 to 3.13)
#   .ci/tools.sh jax      also JAX, for the comparison of the emulator with Pallas (Python 3.11 to 3.13)
#   .ci/tools.sh aot      also libtpu, to compile kernels for TPUs ahead of time
# A set that is complete is left alone; a failure leaves the folder as it was and says one line.
set -eu
cd "$(dirname "$0")/.."
tools=.tools
set_name=${1:-base}

fail() { echo "set-up: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null 2>&1 || fail "$1 is missing: $2"; }

need cargo "install Rust with rustup"
need python3 "install Python 3 (Debian: apt install python3 python3-pip)"
python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing: install it (Debian: apt install python3-pip)"
need cc "install a C compiler (Debian: apt install gcc libc6-dev)"

any_python=
case $set_name in
  base) list=.ci/tools.txt ;;
  extra) list=.ci/tools-extra.txt ;;
  clients) list=.ci/tools-clients.txt ;;
  runbooks) list=.ci/tools-runbooks.txt ;;
  jax) list=.ci/tools-jax.txt ;;
  aot) list=.ci/tools-aot.txt; any_python="--python-version 3.11 --implementation cp" ;;
  *) fail "unknown set '$set_name': base, extra, aot, clients, runbooks or jax" ;;
esac
stamp=$tools/$set_name.ready
[ -f "$stamp" ] && cmp -s "$list" "$stamp" && exit 0

mkdir -p "$tools"
new=$tools/.new-$set_name.$$
rm -rf "$new"
trap 'rm -rf "$new"' EXIT
mkdir -p "$new"
echo "set-up: fetching $(grep -c '==' "$list") packages of $list into $tools (once)" >&2
python3 -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-compile --no-warn-script-location \
  $any_python --only-binary :all: --require-hashes --target "$new/py" -r "$list" 2>"$new/log" ||
  fail "pip could not fetch $list: $(grep -E 'ERROR|error' "$new/log" | head -n 1 | cut -c1-300) (is a Python package index reachable? is this x86-64 Linux?)"

py=$tools/py-$set_name
rm -rf "$py"
mv "$new/py" "$py"
if [ "$set_name" = base ]; then
  mkdir -p "$tools/lib"
  clang=$(find "$py" -name 'libclang.so' | head -n 1)
  protoc=$(find "$py" -path '*bin/protoc' | head -n 1)
  [ -n "$clang" ] && [ -n "$protoc" ] || fail "libclang.so or protoc not found in the fetched packages"
  ln -sfn "../${clang#"$tools"/}" "$tools/lib/libclang.so"
  rm -rf "$tools/protoc"
  ln -sfn "$(dirname "$(dirname "${protoc#"$tools"/}")")" "$tools/protoc"
  chmod +x "$protoc"
  # The libclang package has no stddef.h or stdbool.h of its own; the C compiler's folder has both.
  ln -sfn "$(cc -print-file-name=include)" "$tools/cc-include"
fi
cp "$list" "$stamp"
