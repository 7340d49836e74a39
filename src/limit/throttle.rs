//! A throttle as valid: a rate and a burst that are exact in doubles together.
//!
//! This is the crossing from what people write to what the algorithms may rely on.

use super::rate::Rate;
use crate::time::{MAX_EXACT, Micros};

/// The largest part of a rate's fraction that a stored row has room for (five bytes).
///
/// Every whole number per second, minute, hour or day below a million per second stays exact.
const MAX_FRACTION_PART: u64 = (1 << 40) - 1;

/// A token bucket's size and speed.
///
/// The bucket's level counts `1/per` units, and `drain` of those drain away per **microsecond**.
/// `burst * per` is below 2^53, so that every level is exact as a double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    burst: u64,
    drain: u64,
    per: u64,
}

/// A throttle that cannot be exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidThrottle {
    /// Nothing would ever pass.
    #[error("the burst is 0, so nothing would ever pass; write at least 1")]
    ZeroBurst,
    /// The burst is beyond what a double holds exactly.
    #[error("the burst is over 9007199254740991 (2^53 - 1)")]
    HugeBurst,
    /// No rate fits beside so large a burst.
    #[error(
        "so slow a rate cannot be kept exactly beside so large a burst; lower the burst, raise the rate, or use a quota"
    )]
    TooSlow,
    /// More per microsecond than a double holds exactly.
    #[error("the rate is over 1000000000000/s; lower it")]
    TooFast,
}

impl Throttle {
    /// A bucket of `burst` units that drains at `rate`.
    ///
    /// Where the two do not fit into 2^53 together, the rate is the largest that does and is not
    /// above the one asked for; [`Throttle::rate`] tells which it became.
    ///
    /// # Errors
    /// Where the burst is 0 or over 2^53 - 1, or the rate cannot be represented beside it.
    pub fn new(rate: Rate, burst: u64) -> Result<Self, InvalidThrottle> {
        if burst == 0 {
            return Err(InvalidThrottle::ZeroBurst);
        }
        if burst > MAX_EXACT {
            return Err(InvalidThrottle::HugeBurst);
        }
        let (n, d) = rate.fraction();
        if n > d * 1_000_000 {
            return Err(InvalidThrottle::TooFast);
        }
        let speed = n.div_ceil(d);
        let fits_drain =
            u64::try_from(u128::from(MAX_FRACTION_PART) / speed).unwrap_or(MAX_FRACTION_PART);
        let max_per = MAX_FRACTION_PART.min(MAX_EXACT / burst).min(fits_drain);
        let (n, d) = rate.round_down(max_per).ok_or(InvalidThrottle::TooSlow)?.fraction();
        match (u64::try_from(n), u64::try_from(d)) {
            (Ok(drain), Ok(per)) => Ok(Self { burst, drain, per }),
            _ => Err(InvalidThrottle::TooFast),
        }
    }

    /// How many units fit at once.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// How many `1/per` units drain per microsecond.
    #[must_use]
    pub const fn drain(&self) -> u64 {
        self.drain
    }

    /// Into how many parts the level divides one unit.
    #[must_use]
    pub const fn per(&self) -> u64 {
        self.per
    }

    /// The full bucket's level, in `1/per` units.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.burst * self.per
    }

    /// What `cost` units add to the level, in `1/per` units: one more than fits where `cost` can
    /// never fit, so that the number stays exact.
    #[must_use]
    pub const fn amount(&self, cost: u64) -> u64 {
        if cost > self.burst { self.size() + 1 } else { cost * self.per }
    }

    /// The rate at which the bucket really drains.
    #[must_use]
    pub fn rate(&self) -> Rate {
        Rate::new(self.drain, Micros::new(self.per)).unwrap_or_else(|| unreachable!("never zero"))
    }

    /// How long a full bucket takes to drain, rounded up.
    #[must_use]
    pub const fn window(&self) -> Micros {
        Micros::new(self.size().div_ceil(self.drain))
    }

    /// The throttle of one of `nodes` equal sharers: never less than one unit at once.
    #[must_use]
    pub fn per_node_share(&self, nodes: u64) -> Self {
        let burst = (self.burst / nodes.max(1)).max(1);
        // So slow a share that it cannot be kept beside its burst: a smaller burst makes room.
        let share = self.rate().per_node_share(nodes);
        Self::new(share, burst)
            .or_else(|_| Self::new(share, 1))
            .unwrap_or(Self { burst: 1, ..*self })
    }
}
