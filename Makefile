# For a newcomer: `make score`, `make serve` and `make test`. All set up what they need, once, in .tools.
.PHONY: score serve test tools bench check

# The main job: a real request, a real model.
score: tools
	@cargo run --release --locked --example score

# The same model behind POST /v1/score on port 8000.
serve: tools
	@cargo run --release --locked --example serve

# Every test, examples and doc tests included.
test: tools tools-extra
	cargo build --release --locked --all-features --examples
	cargo test --release --locked --all-features --lib --bins --tests
	cargo test --release --locked --all-features --doc

# Figures of the README: planning, attention against the dense mask.
bench: tools
	cargo bench --locked

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
