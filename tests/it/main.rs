//! Tollgate as its users meet it: real Redis, real gateways, the real binary. One test binary, so
//! that helpers are compiled once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::format_push_string,
    clippy::large_stack_arrays,
    clippy::missing_panics_doc,
    clippy::needless_raw_string_hashes,
    clippy::too_many_lines,
    clippy::must_use_candidate,
    reason = "a test fails by panicking, and its name is its documentation"
)]

mod support;

mod absent_redis;
mod asking;
mod attacks;
mod bad_input;
mod bound;
mod catalog_schema;
mod client_addresses;
mod cluster;
mod commands;
mod concurrency_limits;
mod console;
mod contract;
mod control;
mod damaged_rows;
mod data_dir;
mod deployment;
mod docs;
mod dry_runs;
mod envoy;
mod gateways;
mod grafana;
mod guides;
mod house;
mod identities;
mod idle;
mod import;
mod invalid_checks;
mod key_policies;
mod labels;
mod leases;
mod made_up_keys;
mod migrate;
mod model_sdks;
mod models;
mod openapi;
mod operate;
mod outage;
mod overload;
mod prometheus;
mod ready;
mod recording;
mod redis_client;
mod redis_cluster;
mod redis_module;
mod reference;
mod reports;
mod reservations;
mod rolling_restart;
mod round_trips;
mod rules;
mod settlements;
mod slow_clients;
mod soak;
mod stage_limits;
mod startup;
mod tls;
mod traces;
mod twins;
mod webhooks;
mod what_if;
