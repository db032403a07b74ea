# For a newcomer: `make score`, `make serve` and `make test`. All set up what they need, once, in .tools.
.PHONY: score serve test tools bench check aot

# The main job: a real request, a real model.
score: tools
	@cargo run --release --locked -p score

# The same model behind POST /v1/score on port 8000.
serve: tools
	@cargo run --release --locked -p serve

# libtpu shall not look for a TPU's metadata, nor mind a second process.
NO_TPU = TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1

# Every test, of the library, its examples and its documents.
test: tools tools-extra
	$(NO_TPU) cargo test --release --locked --workspace --all-features --lib --bins --tests
	cargo test --release --locked --workspace --all-features --doc

# Every declared Mosaic variant through the real compiler, for v5e, v6e and v7x, without a TPU; then a build that embeds
# the executables, and a test that they are the ones that TPU clients look for.
aot: tools tools-aot
	cargo run --release --locked -p aot
	$(NO_TPU) TPU_RPA_AOT=target/aot cargo test --release --locked --all-features --test selection

# Figures of the README: planning, host side, attention against the dense mask.
bench: tools
	cargo bench --locked --workspace

# Replayed schedules of all committed cases against the table, without a TPU.
# `make ratchet UPDATE=--update` writes the table.
ratchet: tools tools-aot
	cargo run --release --locked -p schedule -- ratchet $(UPDATE)

# Search block sizes of attention for every device kind by compiling and replaying; rewrites kernels/tables.
tune: tools tools-aot
	cargo run --release --locked -p schedule -- tune

# Replayed schedules of our attention beside JAX's public ragged paged attention (Python 3.11 to 3.13).
compare: tools tools-aot
	@sh .ci/tools.sh jax
	PYTHONPATH=.tools/py-jax cargo run --release --locked -p schedule -- \
	  compare --workload W1,W1c,W2,W3,W4,W5

# A page about them: roofs, roofline plot, and how busy every region keeps the units.
report: tools tools-aot
	cargo run --release --locked -p schedule -- \
	  report --workload W1,W1c,W2,W3,W4,W5,L1 --out target/schedule/report.html

.PHONY: ratchet tune compare report

# What CI asks for besides the tests.
check: tools
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-features --all-targets -- -D warnings
	cargo clippy --release --locked --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --all-features --no-deps

# Build tools of pjrt-sys, a CPU PJRT plugin and the example's model, as pinned Python packages.
tools:
	@sh .ci/tools.sh base

tools-extra:
	@sh .ci/tools.sh extra

tools-aot:
	@sh .ci/tools.sh aot

.PHONY: tools-extra tools-aot
