# One target per task. `make test` on a fresh Debian machine with Rust is the complete setup.

.PHONY: help run fast test contract lint deny bench tools

# The integration tests that need no program but the compiler, by module. tests/it/house.rs holds the
# list. libtest matches anywhere in a name, so modules within these names are skipped again.
FAST = absent_redis:: asking:: bad_input:: bound:: commands:: control::alongside:: control::audit:: control::bad_input:: control::corrections:: control::file_resources:: control::import:: control::override_parts:: control::overrides:: control::restart:: control::rotation:: control::usage:: docs:: envoy::answers:: envoy::bad_input:: envoy::operation:: house:: import:: key_policies:: labels:: openapi:: operate:: stage_limits:: tls:: webhooks::failing::
NOT_FAST = control::key_policies:: redis_cluster::key_policies:: commands::usage_in_redis::

help: ## Lists the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

run: ## Serves on 127.0.0.1:8080, counts in memory, with the built-in example catalog
	cargo run --release --locked

fast: ## Runs the unit tests, the examples in the documentation, and the integration tests that need only Rust
	cargo test --locked --lib
	cargo test --locked --doc
	cargo test --locked --test it -- $(FAST) $(NOT_FAST:%=--skip %)

test: tools ## Installs the programs that the tests need, and runs all tests
	cargo test --locked
	cargo test --locked --lib --features shuttle leases::model

contract: tools ## Runs schemathesis with 2,000 cases for each operation; takes long
	CONTRACT_CASES=2000 cargo test --locked --test it contract -- --nocapture

lint: ## Checks formatting and clippy, as CI does
	cargo fmt --all --check
	cargo clippy --locked --all-targets --all-features -- -D warnings

deny: ## Checks licenses, sources, duplicates and advisories of all dependencies
	.ci/deny

bench: tools ## Measures this machine and writes bench/results
	cargo build --release --locked --features bench
	python3 bench/run.py
	python3 bench/grpc.py

tools: ## Installs the programs of the tests and benchmarks, from Debian and PyPI
	@deploy/tools.sh
