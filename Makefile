# Two commands for a newcomer: `make score` and `make test`. Both set up what they need, once, in .tools.
.PHONY: score test tools bench check

# The main job: a real request, a real model.
score: tools
	@cargo run --release --locked --example score

# Every test, examples and doc tests included.
test: tools tools-extra
	cargo build --release --locked --all-features --examples
	cargo test --release --locked --all-features --lib --bins --tests
	cargo test --release --locked --all-features --doc

# Figures of the README: planning, attention against the dense mask.
bench: tools
	cargo bench --locked

# Replayed schedules of all committed cases against the table, with libtpu from TPU_LIBRARY_PATH.
# `make ratchet UPDATE=--update` writes the table.
ratchet: tools
	cargo run --release --locked --features schedule --example schedule -- ratchet $(UPDATE)

.PHONY: ratchet

# What CI asks for besides the tests.
check: tools
	cargo fmt --all --check
	cargo clippy --release --locked --all-features --all-targets -- -D warnings
	cargo clippy --release --locked --no-default-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --all-features --no-deps

# Build tools of pjrt-sys, a CPU PJRT plugin and the example's model, as pinned Python packages.
tools:
	@sh .ci/tools.sh base

tools-extra:
	@sh .ci/tools.sh extra

.PHONY: tools-extra
