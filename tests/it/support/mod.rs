//! Test helpers: servers, clients and proxies. Each test starts its own on free ports, and stops
//! them.

pub mod gateway;
pub mod grpc;
pub mod guide;
pub mod http;
pub mod node;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod redis_cluster;
pub mod tls;

use std::time::{Duration, Instant};

/// Timeout of everything that has no timeout of its own. Long, since CI machines are slow.
pub const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Waits until `condition` holds. If it never does, the test fails with `what`.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + TEST_TIMEOUT;
    while !condition() {
        assert!(Instant::now() < give_up, "timeout while waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A free port. Another process may take it before it is used.
pub fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().port()
}

/// A file in the repository.
pub fn repository(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
