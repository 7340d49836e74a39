# One recipe per verb. `make test` on a fresh Debian machine with Rust is the whole set-up.

.PHONY: help run test contract lint deny bench tools

help: ## Says what there is to make
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

run: ## Serves on 127.0.0.1:8080, limits in memory, built-in example catalog
	cargo run --release --locked

test: tools ## Installs what the tests need and lacks, and runs them all
	cargo test --locked
	cargo test --locked --lib --features shuttle leases::model

contract: tools ## Lets schemathesis try 2,000 cases of every operation; takes long
	CONTRACT_CASES=2000 cargo test --locked --test it contract -- --nocapture

lint: ## Formatting and clippy, as CI has them
	cargo fmt --all --check
	cargo clippy --locked --all-targets --all-features -- -D warnings

deny: ## Licences, advisories and sources of all dependencies; needs cargo-deny
	cargo deny --locked check

bench: tools ## Measures this machine and writes bench/results
	cargo build --release --locked --features bench
	python3 bench/run.py
	python3 bench/grpc.py

tools: ## Installs what tests and benchmarks need, from Debian and PyPI
	@deploy/tools.sh
