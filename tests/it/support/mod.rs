//! What tests start for themselves: each has its own servers on its own ports, and ends them.

pub mod gateway;
pub mod grpc;
pub mod http;
pub mod node;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod redis_cluster;
pub mod tls;

use std::time::{Duration, Instant};

/// How long anything may take that has no time of its own: long, since CI machines are slow.
pub const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Waits until `condition` holds; `what` says what it was if it never does.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + TEST_TIMEOUT;
    while !condition() {
        assert!(Instant::now() < give_up, "in vain waited until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().port()
}

/// A file in the repository.
pub fn repository(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
