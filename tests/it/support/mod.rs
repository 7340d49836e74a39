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

use std::sync::atomic::{AtomicU32, Ordering};
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

/// The ports of the tests' servers. They lie below those that Linux draws for connections and for
/// port 0, so no connection takes a port between two uses of it.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

/// A free port, which no other call in this process returns.
pub fn free_port() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.end - PORTS.start;
    // Test programs that run side by side begin at different ports.
    let first = std::process::id().wrapping_mul(7919) % count;
    loop {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        assert!(call < count, "all ports were tried");
        let port = u16::try_from(PORTS.start + (first + call) % count).unwrap();
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// A file in the repository.
pub fn repository(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
