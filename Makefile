# One target per task. `make test` on a fresh Debian machine with Rust is the complete setup.

.PHONY: help run fast test contract streams soak attack lint deny book reference bench tools

# The modules of the integration tests that need other programs than Rust: their files say so, and
# tests/it/house/fast.rs holds them to it.
NOT_FAST = $(shell grep -rlFx '//! Needs programs besides Rust, so `make fast` skips it.' tests/it | sed 's,^tests/it/,,; s,/mod.rs,,; s,\.rs,,; s,/,::,g; s,.*,&::,')

help: ## Lists the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

run: ## Serves on 127.0.0.1:8080, counts in memory, with the built-in example catalog
	cargo run --release --locked

fast: ## Runs all tests that need only Rust: unit tests, examples in the documentation, half of the integration tests
	cargo test --locked --lib
	cargo test --locked --doc
	cargo test --locked --test it -- $(NOT_FAST:%=--skip %)

test: tools ## Installs the programs that the tests need, and runs all tests
	cargo build --locked --package tollgate-redis
	cargo test --locked
	cargo test --locked --lib --features shuttle leases::model

contract: tools ## Runs schemathesis with 2,000 cases for each operation; takes long
	CONTRACT_CASES=2000 cargo test --locked --test it contract -- --nocapture

streams: tools ## Kills clients and nodes under 50 streams of a model for a minute, and compares the budgets
	STREAMS_SECONDS=60 cargo test --locked --test it -- streams::budgets --nocapture

soak: tools ## Runs both stores under load for an hour (SOAK_SECONDS), and fails where anything grew or a response was wrong
	cargo build --release --locked
	python3 tests/endurance/soak.py

attack: tools ## Attacks a node for ten minutes beside a client that behaves (ATTACK_SEED), and prints the table of docs/testing.md
	cargo build --release --locked
	python3 tests/endurance/attack.py

lint: ## Checks formatting and clippy, as CI does
	cargo fmt --all --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --package tollgate-redis -- -D warnings

deny: ## Checks licenses, sources, duplicates and advisories of all dependencies
	.ci/deny

book: ## Builds the documentation as a site into target/book
	.ci/book

reference: ## Writes the pages of docs/reference, and the table of members, that are made from the program
	UPDATE_REFERENCE=1 cargo test --locked --test it -- reference:: control::members::the_table

bench: tools ## Measures this machine and writes bench/results
	cargo build --release --locked --features bench
	python3 bench/run.py
	python3 bench/grpc.py
	python3 bench/reservations.py
	python3 bench/editors.py

tools: ## Installs the programs of the tests and benchmarks, from Debian and PyPI
	@deploy/tools.sh
