//! The sizes of leases, and the pauses between calls about a counter whose bucket is empty: plain
//! functions of a limit and of the number of nodes. They know no counter.

use std::time::Duration;

use super::LEASE_LIFETIME;
use crate::algorithm::{Algorithm, Counting as _};
use crate::limit::Limit;
use crate::time::Micros;

/// The smallest useful lease, in units. A smaller one saves no calls; a limit whose fair share for
/// one node is smaller is not leased at all.
pub(super) const MIN_LEASE_UNITS: u64 = 16;
/// The pause after a refusal, for each node: a busy node makes one or two script calls in it.
const PAUSE_PER_NODE: Duration = Duration::from_millis(50);
/// The longest pause after a refusal.
pub(super) const MAX_PAUSE: Duration = Duration::from_millis(250);

/// The time for which an empty bucket gathers units, whatever the demand, before a node asks for
/// them. A quarter of the bucket drains at most: units would be lost in a bucket that stays empty,
/// should the node be late.
pub(super) fn pause(limit: &Limit, holders: u64) -> Duration {
    let holders = u32::try_from(holders).unwrap_or(u32::MAX);
    let quarter = limit.algorithm().time_to_drain(limit.size() / 4);
    let quarter = Duration::from_micros(quarter.get());
    PAUSE_PER_NODE.saturating_mul(holders).min(MAX_PAUSE).min(quarter)
}

/// The units that an empty bucket gathers in a pause: a quarter of it at most, also where the pause is
/// shorter than the microsecond that clocks have.
pub(super) fn gathered_units(limit: &Limit, holders: u64) -> u64 {
    drained_units(limit.algorithm(), pause(limit, holders)).min(limit.capacity() / 4)
}

/// True if each node's share of the units that the limit allows within a lease's lifetime is at
/// least the smallest useful lease.
pub(super) fn is_worth_leasing(algorithm: &Algorithm, holders: u64) -> bool {
    let units_in_lifetime = drained_units(algorithm, LEASE_LIFETIME);
    algorithm.capacity().min(units_in_lifetime) >= MIN_LEASE_UNITS * holders.max(1)
}

/// The units that drain in `time`.
fn drained_units(algorithm: &Algorithm, time: Duration) -> u64 {
    let time = Micros::new(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    algorithm.drained(time) / algorithm.amount(1)
}
