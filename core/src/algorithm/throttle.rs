//! The sizes of a token bucket: a rate and a burst that are exact in doubles together.
//!
//! A value is valid once it exists. The arithmetic of the token bucket is `token_bucket`'s.

use serde::{Deserialize, Serialize};

use super::rate::Rate;
use crate::time::{MAX_EXACT, Micros};

/// The largest numerator or denominator that a stored row has room for (five bytes).
///
/// Every whole number per second, minute, hour or day below a million per second stays exact.
const MAX_FRACTION_PART: u64 = (1 << 40) - 1;

/// The burst and the rate of a token bucket.
///
/// The bucket's level counts `1/per` units, and `drain` of those drain per **microsecond**.
/// `burst * per` is below 2^53, so that every level is exact as a double.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RecordedThrottle", into = "RecordedThrottle")]
pub struct Throttle {
    burst: u64,
    drain: u64,
    per: u64,
}

/// A rate and a burst that make no exact token bucket.
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
    /// A token bucket of `burst` units that drains at `rate`.
    ///
    /// If the two do not fit into 2^53 together, the rate is rounded down to one that does;
    /// [`Throttle::rate`] returns it.
    ///
    /// ```
    /// use tollgate_core::algorithm::{InvalidThrottle, Rate, Throttle};
    /// use tollgate_core::time::Micros;
    ///
    /// let rate: Rate = "7/h".parse()?;
    /// assert_eq!(Throttle::new(rate, 100)?.rate(), rate);
    /// // Beside a burst of 2^50 only denominators up to 7 are exact, so this becomes 6/7 per µs.
    /// let rounded = Throttle::new("999999/s".parse()?, 1 << 50)?;
    /// assert_eq!(Some(rounded.rate()), Rate::new(6, Micros::new(7)));
    /// assert_eq!(Throttle::new(rate, 0), Err(InvalidThrottle::ZeroBurst));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If the burst is 0 or over 2^53 - 1, or no rate fits beside it.
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

    /// The token bucket that a call's arguments describe by what drains per microsecond, the parts of
    /// a unit, and its size in those parts; `None` if a node would not send it.
    pub(crate) fn from_parts(drain: u64, per: u64, size: u64) -> Option<Self> {
        let parts = 1..=MAX_FRACTION_PART;
        let are_valid = parts.contains(&drain) && parts.contains(&per);
        let burst = size.checked_div(per).filter(|burst| are_valid && burst * per == size)?;
        (1..=MAX_EXACT).contains(&size).then_some(Self { burst, drain, per })
    }

    /// The units that fit at once.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// The `1/per` units that drain per microsecond.
    #[must_use]
    pub const fn drain(&self) -> u64 {
        self.drain
    }

    /// The parts into which the level divides one unit.
    #[must_use]
    pub const fn per(&self) -> u64 {
        self.per
    }

    /// The rate at which the token bucket drains.
    #[must_use]
    pub fn rate(&self) -> Rate {
        Rate::new(self.drain, Micros::new(self.per)).unwrap_or_else(|| unreachable!("never zero"))
    }

    /// The part that one of `nodes` equal nodes may use alone: at least one unit at once.
    pub(super) fn divided_by(&self, nodes: u64) -> Self {
        let burst = (self.burst / nodes.max(1)).max(1);
        // A share may be too slow to be exact beside its burst; a smaller burst makes room.
        let share = self.rate().per_node_share(nodes);
        Self::new(share, burst)
            .or_else(|_| Self::new(share, 1))
            .unwrap_or(Self { burst: 1, ..*self })
    }
}

/// A throttle as `--record` writes it.
#[derive(Serialize, Deserialize)]
struct RecordedThrottle {
    burst: u64,
    drain: u64,
    per: u64,
}

impl From<Throttle> for RecordedThrottle {
    fn from(Throttle { burst, drain, per }: Throttle) -> Self {
        Self { burst, drain, per }
    }
}

impl TryFrom<RecordedThrottle> for Throttle {
    type Error = InvalidThrottle;

    fn try_from(recorded: RecordedThrottle) -> Result<Self, Self::Error> {
        let RecordedThrottle { burst, drain, per } = recorded;
        Self::new(Rate::new(drain, Micros::new(per)).ok_or(InvalidThrottle::TooSlow)?, burst)
    }
}
