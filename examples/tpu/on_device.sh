#!/bin/sh
# Runs on the machine that has the device: set-up, tests, benches, bench_score. Started in a checkout of this
# repository; needs rustup's cargo, cc, make, python3 and pip.
#   RESULTS  folder for what comes out (default: results)
#   PROFILE  profile of bench_score: smoke, standard or full (default: standard)
#   DTYPE    storage type: f32 or bf16 (default: bf16)
#   LIBTPU   version of the libtpu Python package; without it the CPU plugin of the set-up is measured
# Every step's output goes to RESULTS. A step that fails does not keep the next from running; the exit status is 1 then.
set -u
RESULTS=${RESULTS:-results}
PROFILE=${PROFILE:-standard}
DTYPE=${DTYPE:-bf16}
LIBTPU=${LIBTPU:-}
mkdir -p "$RESULTS"
failed=0

step() {
  name=$1
  shift
  echo "== $name: $*"
  if "$@" >"$RESULTS/$name.log" 2>&1; then
    echo "   ok"
  else
    echo "   FAILED with status $?: the end of its output"
    tail -n 20 "$RESULTS/$name.log"
    failed=1
  fi
}

step set-up sh .ci/tools.sh base
if [ -n "$LIBTPU" ]; then
  step libtpu python3 -m pip install --quiet --no-deps --target .tools/py-libtpu "libtpu==$LIBTPU"
  TPU_LIBRARY_PATH=$PWD/.tools/py-libtpu/libtpu/libtpu.so
  export TPU_LIBRARY_PATH
fi
step build cargo build --release --locked --workspace --all-features
step test-runtime cargo test --release --locked --all-features --test runtime_libtpu --test runtime_failure
step test-scores cargo test --release --locked -p engine --test golden -- --nocapture
step bench-planning cargo bench --locked --bench planning
step bench-attention cargo bench --locked --bench attention
step bench-end-to-end cargo bench --locked -p engine
step bench-score cargo run --release --locked -p bench_score -- --profile "$PROFILE" --dtype "$DTYPE" \
  --json "$RESULTS/bench_score.json" --csv "$RESULTS/bench_score.csv" --trace "$RESULTS/trace.json"
[ -d target/criterion ] && tar -czf "$RESULTS/criterion.tar.gz" -C target criterion
exit "$failed"
