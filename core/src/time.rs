//! Time as a plain number, so that a decision depends on its arguments and on nothing else.
//!
//! Every function that decides takes `now`. Only a [`Clock`] reads the machine's time of day. With
//! counters in Redis, Redis' clock decides: two nodes never agree to the microsecond. Deadlines and
//! timeouts are not here; they use tokio's monotonic clock.

use std::fmt;
use std::ops::Add;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The largest whole number that a double, and therefore Redis' Lua, holds exactly together with
/// all its predecessors: 2^53 - 1.
pub const MAX_EXACT: u64 = (1 << 53) - 1;

/// A point in time since 1970-01-01T00:00Z, or a duration, in **microseconds**.
///
/// Lua numbers are doubles: whole microseconds since 1970 stay exact until the year 2255, whole
/// nanoseconds only for the first 104 days.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(u64);

impl Micros {
    /// The beginning of 1970, or a duration of zero.
    pub const ZERO: Self = Self(0);
    /// The longest exact time, in the year 2255.
    pub const MAX: Self = Self(MAX_EXACT);

    /// `micros` microseconds, at most [`Micros::MAX`].
    #[must_use]
    pub const fn new(micros: u64) -> Self {
        if micros > MAX_EXACT { Self::MAX } else { Self(micros) }
    }

    /// `secs` seconds, at most [`Micros::MAX`].
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self::new(secs.saturating_mul(1_000_000))
    }

    /// The number of microseconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The duration since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds, rounded up: waiting that long is never too short.
    #[must_use]
    pub const fn as_millis_ceil(self) -> u64 {
        self.0.div_ceil(1_000)
    }

    /// Whole seconds, rounded up: waiting that long is never too short.
    #[must_use]
    pub const fn as_secs_ceil(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }
}

impl Add for Micros {
    type Output = Self;

    /// The sum, at most [`Micros::MAX`].
    fn add(self, more: Self) -> Self {
        Self::new(self.0.saturating_add(more.0))
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}

/// A source of the time of day.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since 1970.
    fn now(&self) -> Micros;
}

/// The machine's time of day.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Micros {
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Micros::new(u64::try_from(since_1970.as_micros()).unwrap_or(MAX_EXACT))
    }
}

/// The time since the machine started, sleep included: the clock of a lease's lifetime.
#[must_use]
pub fn boot_clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Never negative, and never a whole second of nanoseconds.
    Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A clock that is set by hand, for tests and for replays of recorded histories.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Sets the clock, forwards or backwards.
    pub fn set(&self, now: Micros) {
        self.0.store(now.get(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        Micros::new(self.0.load(Ordering::SeqCst))
    }
}

/// A node's estimate of another clock: its own clock, corrected by the last reading.
///
/// It decides nothing. It selects the calendar windows to offer to the store, and determines
/// whether a key's `expires_at` has passed; both are right even if the node's own clock is wrong.
#[derive(Debug, Default)]
pub struct ClockEstimate(AtomicI64);

impl ClockEstimate {
    /// Takes `theirs` as the other clock's reading at this moment.
    pub fn observe(&self, theirs: Micros) {
        let offset = signed(theirs) - signed(SystemClock.now());
        self.0.store(offset, Ordering::Relaxed);
    }

    /// The estimated time of the other clock; the node's own until the first reading.
    #[must_use]
    pub fn now(&self) -> Micros {
        let now = signed(SystemClock.now()) + self.0.load(Ordering::Relaxed);
        Micros::new(u64::try_from(now).unwrap_or(0))
    }
}

/// Exact: a [`Micros`] has 53 bits.
fn signed(time: Micros) -> i64 {
    time.get().cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_round_up() {
        assert_eq!(Micros::new(1).as_millis_ceil(), 1);
        assert_eq!(Micros::new(1_000_001).as_secs_ceil(), 2);
        assert_eq!(Micros::from_secs(2).as_secs_ceil(), 2);
    }

    #[test]
    fn time_never_leaves_what_a_double_holds() {
        assert_eq!(Micros::new(u64::MAX), Micros::MAX);
        assert_eq!(Micros::MAX + Micros::MAX, Micros::MAX);
        assert_eq!(Micros::from_secs(u64::MAX), Micros::MAX);
        assert_eq!(Micros::new(3).since(Micros::new(5)), Micros::ZERO);
    }

    #[test]
    fn an_estimate_follows_the_clock_that_it_observed() {
        let hour = Micros::from_secs(3600);
        let estimate = ClockEstimate::default();
        estimate.observe(SystemClock.now() + hour);
        let ahead = estimate.now().since(SystemClock.now());
        assert!(ahead > Micros::from_secs(3590) && ahead <= hour, "{ahead:?}");
    }
}
