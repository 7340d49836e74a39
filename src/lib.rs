//! Tollgate: a distributed rate-limiting service.
//!
//! The library is the service; the binary only reads its arguments. Modules are declared in the
//! order of their dependencies, which point one way: a module uses those above it, never below.
//! Limits and decisions are a library of their own, `tollgate-core`, which Redis can load as well.
//!
//! A check as a library would make it: the catalog resolves its limits, a store judges them.
//!
//! ```
//! use std::sync::Arc;
//!
//! use tollgate::catalog::{Catalog, CheckRequest, Cost, PolicyKey};
//! use tollgate::store::MemoryStore;
//! use tollgate::time::SystemClock;
//!
//! let text = "
//! version: 1
//! policies: [{ name: login, throttle: { rate: 5/min, burst: 2 } }]
//! ";
//! let catalog = Catalog::parse(text, "login.yaml")?;
//! let store = MemoryStore::new(Arc::new(SystemClock));
//!
//! let policy = PolicyKey { policy: "login", key: "ip:203.0.113.7", index: None };
//! let request = CheckRequest {
//!     api: None,
//!     stage: None,
//!     method: None,
//!     path: None,
//!     policies: [policy].into_iter().collect(),
//!     cost: Cost::Requests(1),
//!     after_the_fact: false,
//!     model: None,
//!     usage: None,
//! };
//! let limits = catalog.resolve(&request, None, store.now()).unwrap();
//! let allowed = [1, 2, 3].map(|_| store.judge(&limits.charges).unwrap().verdict.allowed);
//! assert_eq!(allowed, [true, true, false]);
//! # Ok::<(), tollgate::catalog::ValidationError>(())
//! ```

pub use tollgate_core::{algorithm, judge, limit, time};

pub mod object;
pub mod watch;
pub mod syntax;
pub mod digest;
pub mod failure_policy;
pub mod settings;
pub mod inference;
pub mod catalog;
pub mod reservation;
pub mod telemetry;
pub mod tls;
pub mod transport;
pub mod store;
pub mod control;
pub mod engine;
pub mod webhook;
pub mod http;
pub mod grpc;
pub mod admin;
pub mod app;
pub mod commands;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
