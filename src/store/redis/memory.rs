//! The memory of Redis. A server that is nearly full takes no new subjects that callers make up:
//! counters in use, API keys and the admin API need the rest.
//!
//! The script refuses them: limits in `lua/limits.lua` have a flag for it. A server without a
//! `maxmemory` is never full.

use std::time::Duration;

use futures_util::future::join_all;

use super::instance::RedisInstance;
use super::{Redis, StoreError};
use crate::watch::next_tick;

/// The part of `maxmemory`, in percent, from which on a server takes no new subjects.
const FULL_PERCENT: u64 = 90;
/// The part below which it takes them again.
const ROOM_PERCENT: u64 = 85;
/// The part from which on the memory is polled often: a flood of keys fills a small server by an
/// eighth in a second.
const CLOSE_PERCENT: u64 = 60;
/// The polling intervals, by default and from [`CLOSE_PERCENT`] on.
const POLL_INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(100)];

impl Redis {
    /// Follows the memory of all primaries. Never returns.
    pub(super) async fn watch_memory(&self) {
        let mut percent = 0;
        loop {
            let primaries = self.topology.primaries();
            let read = join_all(primaries.iter().map(|server| read_percent(server))).await;
            for (server, read) in primaries.iter().zip(&read) {
                match read {
                    Ok(percent) => follow(server, *percent),
                    Err(error) => {
                        tracing::debug!(%error, server = &*server.address, "its memory is not known");
                    }
                }
            }
            percent = read.into_iter().flatten().max().unwrap_or(percent);
            #[expect(clippy::cast_precision_loss, reason = "a small number for a gauge")]
            self.metrics.redis_memory_used.set(percent as f64 / 100.0);
            next_tick(POLL_INTERVALS[usize::from(percent >= CLOSE_PERCENT)]).await;
        }
    }

    /// Sets whether all primaries take new subjects that callers make up, until the next poll of
    /// their memory.
    pub fn take_new_subjects(&self, takes: bool) {
        for server in self.topology.primaries() {
            server.set_nearly_full(!takes);
        }
    }
}

/// Applies what is known of a server's memory, and logs a change.
fn follow(server: &RedisInstance, percent: u64) {
    let is_full = is_nearly_full(server.is_nearly_full(), percent);
    let was_full = server.set_nearly_full(is_full);
    let server = &*server.address;
    match (was_full, is_full) {
        (false, true) => {
            tracing::error!(
                server,
                percent,
                "the memory of Redis is nearly full; no new keys of policies are counted, and on_store_failure decides about them"
            );
        }
        (true, false) => {
            tracing::info!(server, percent, "Redis has memory again and counts new keys");
        }
        _ => {}
    }
}

fn is_nearly_full(was: bool, percent: u64) -> bool {
    percent >= if was { ROOM_PERCENT } else { FULL_PERCENT }
}

/// The used part of a server's `maxmemory` in percent; 0 if it has none.
async fn read_percent(server: &RedisInstance) -> Result<u64, StoreError> {
    let mut info = redis::cmd("INFO");
    match server.run_command::<String>(info.arg("memory"), false).await? {
        Ok(info) => Ok(used_percent(&info)),
        Err(redirect) => Err(StoreError::BadReply(format!("INFO is redirected: {redirect:?}"))),
    }
}

/// The memory that Redis compares with its `maxmemory`, in percent of it.
fn used_percent(info: &str) -> u64 {
    let field = |name: &str| {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok();
        info.lines().find_map(value).unwrap_or(0_u64)
    };
    let used = field("used_memory").saturating_sub(field("mem_not_counted_for_evict"));
    used.saturating_mul(100).checked_div(field("maxmemory")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_used_part_leaves_out_what_redis_leaves_out() {
        let info = "# Memory\r\nused_memory:950\r\nused_memory_human:950B\r\nmaxmemory:1000\r\nmaxmemory_human:1K\r\nmem_not_counted_for_evict:50\r\n";
        assert_eq!(used_percent(info), 90);
        assert_eq!(used_percent(&info.replace("maxmemory:1000", "maxmemory:0")), 0, "no maxmemory");
        assert_eq!(used_percent(""), 0, "a server that hides it");
    }

    #[test]
    fn a_server_is_full_from_90_percent_until_it_is_below_85() {
        let percents = [0, 89, 90, 100, 89, 85, 84, 89, 120];
        let expected = [false, false, true, true, true, true, false, false, true];
        let mut is_full = false;
        let states = percents.map(|percent| {
            is_full = is_nearly_full(is_full, percent);
            is_full
        });
        assert_eq!(states, expected);
    }
}
