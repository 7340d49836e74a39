//! The circuit breaker of one connection: while it is open, checks fail at once.
//!
//! The connection's task opens and closes it; when, is not known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::redis::Redis;

/// The circuit breaker of one connection, shared by its task and the queue to it.
pub(super) struct Breaker {
    redis: Arc<Redis>,
    is_open: AtomicBool,
}

impl Breaker {
    /// A closed circuit breaker.
    pub(super) fn new(redis: &Arc<Redis>) -> Self {
        Self { redis: Arc::clone(redis), is_open: AtomicBool::new(false) }
    }

    /// True while no check may use the connection.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Opens or closes the circuit breaker. The metrics count each breaker that is open once.
    pub(super) fn set_open(&self, is_open: bool) {
        if self.is_open.swap(is_open, Ordering::Relaxed) == is_open {
            return;
        }
        if is_open {
            self.redis.metrics.breaker_open.inc();
            self.redis.open_breakers.fetch_add(1, Ordering::Relaxed);
        } else {
            self.redis.metrics.breaker_open.dec();
            self.redis.open_breakers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
