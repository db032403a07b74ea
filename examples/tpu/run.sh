#!/bin/sh
# Rents a TPU VM, runs the tests and benchmarks of this checkout on it, brings the results back and deletes the VM.
# The VM is deleted even if a step fails or the script is interrupted.
set -eu

usage() {
  cat <<'TEXT'
usage: examples/tpu/run.sh --project P --zone Z --type T --image I --libtpu V [options]

Each option can come from the environment variable behind it instead.
  --project P   TPU_PROJECT   Google Cloud project
  --zone Z      TPU_ZONE      zone that has the type
  --type T      TPU_TYPE      accelerator type, such as v6e-1 or v5litepod-1
  --image I     TPU_IMAGE     software version of the TPU VM (gcloud: --version)
  --libtpu V    TPU_LIBTPU    version of the libtpu Python package
  --name N      TPU_NAME      name of the VM (default: tpu-rpa-, then the process id)
  --results D   TPU_RESULTS   local folder for the results (default: tpu-results)
  --profile P   TPU_PROFILE   profile of bench_score: smoke, standard or full (default: standard)
  --dtype D     TPU_DTYPE     f32 or bf16 (default: bf16)
  --spot                      a spot VM: cheaper, may be taken away
  --keep                      do not delete the VM
  --dry-run                   print what would be done, and do nothing
TEXT
}

fail() { echo "run.sh: $*" >&2; exit 2; }

project=${TPU_PROJECT:-} zone=${TPU_ZONE:-} type=${TPU_TYPE:-} image=${TPU_IMAGE:-} libtpu=${TPU_LIBTPU:-}
name=${TPU_NAME:-tpu-rpa-$$} results=${TPU_RESULTS:-tpu-results} profile=${TPU_PROFILE:-standard}
dtype=${TPU_DTYPE:-bf16} spot='' keep='' dry=''
while [ $# -gt 0 ]; do
  case $1 in
    --project | --zone | --type | --image | --libtpu | --name | --results | --profile | --dtype)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --project) project=$2 ;;
        --zone) zone=$2 ;;
        --type) type=$2 ;;
        --image) image=$2 ;;
        --libtpu) libtpu=$2 ;;
        --name) name=$2 ;;
        --results) results=$2 ;;
        --profile) profile=$2 ;;
        --dtype) dtype=$2 ;;
      esac
      shift ;;
    --spot) spot=1 ;;
    --keep) keep=1 ;;
    --dry-run) dry=1 ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $1" ;;
  esac
  shift
done
[ -n "$project" ] || fail "--project is missing"
[ -n "$zone" ] || fail "--zone is missing"
[ -n "$type" ] || fail "--type is missing"
[ -n "$image" ] || fail "--image is missing"
[ -n "$libtpu" ] || fail "--libtpu is missing"
for word in "$profile" "$dtype" "$libtpu"; do
  # They become words of a command on the VM.
  case $word in *[!A-Za-z0-9._-]*) fail "'$word' has characters other than letters, digits and ._-" ;; esac
done

run() {
  if [ -n "$dry" ]; then echo "+ $*"; else "$@"; fi
}
tpu() {
  verb=$1
  shift
  run gcloud compute tpus tpu-vm "$verb" "$@" --project="$project" --zone="$zone" --quiet
}
remote() { tpu ssh "$name" --command="$1"; }

cd "$(dirname "$0")/../.."
work=$(mktemp -d)
created=''
# shellcheck disable=SC2329 # called by the trap
clean_up() {
  status=$?
  trap - EXIT INT TERM HUP
  rm -rf "$work"
  if [ -n "$created" ] && [ -z "$keep" ]; then
    tpu delete "$name" || echo "run.sh: DELETE THE VM YOURSELF: $name in $zone of $project" >&2
  elif [ -n "$created" ]; then
    echo "run.sh: kept $name in $zone of $project: it costs until it is deleted" >&2
  fi
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

run git archive --format=tar.gz --output="$work/checkout.tar.gz" HEAD
# From here on there may be a VM, also if this command fails half-way.
created=1
if [ -n "$spot" ]; then
  tpu create "$name" --accelerator-type="$type" --version="$image" --spot
else
  tpu create "$name" --accelerator-type="$type" --version="$image"
fi
tpu scp "$work/checkout.tar.gz" "$name:checkout.tar.gz"
remote "mkdir -p tpu-rpa && tar -xzf checkout.tar.gz -C tpu-rpa"
remote "sudo apt-get update -q && sudo apt-get install -q -y gcc libc6-dev make python3-pip curl"
remote "command -v cargo || curl -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
# Its status is kept for the end: results come back from a failed run too.
status=0
remote "cd tpu-rpa && PATH=\$HOME/.cargo/bin:\$PATH PROFILE=$profile DTYPE=$dtype LIBTPU=$libtpu sh examples/tpu/on_device.sh" ||
  status=$?
run mkdir -p "$results"
remote "tar -czf results.tar.gz -C tpu-rpa results"
tpu scp "$name:results.tar.gz" "$results/results.tar.gz"
run tar -xzf "$results/results.tar.gz" -C "$results" --strip-components=1
exit "$status"
