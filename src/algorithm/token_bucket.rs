//! The token bucket: how full it is, draining at a constant rate. Twin of `lua/token_bucket.lua`.
//!
//! The state is the level, not the tokens left: an absent row is an empty bucket, a changed burst
//! or rate applies at once, and nothing has to be refilled. Nothing here reads a clock or a store.

use crate::limit::Throttle;
use crate::time::{MAX_EXACT, Micros};

/// How full a bucket was, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// What was in it, in `1/per` units.
    pub level: u64,
    /// When that was so.
    pub updated_at: Micros,
    /// Into how many parts the level divides one unit.
    pub per: u64,
    /// How many of those parts drain per microsecond.
    pub drain: u64,
    /// Since when the bucket has been draining so, in [`TICK_MICROS`]s since 1970.
    pub rate_since: u64,
}

/// In which a bucket says since when its rate has been what it is: 2^20 µs.
pub const TICK_MICROS: u64 = 1 << 20;

/// What to write over `before` for a bucket that holds `level`.
#[must_use]
pub fn updated(before: Option<Bucket>, level: u64, throttle: &Throttle, now: Micros) -> Bucket {
    let (per, drain, tick) = (throttle.per(), throttle.drain(), now.get() / TICK_MICROS);
    let rate_since = match before {
        // Whatever was charged in this tick was perhaps charged before the rate changed.
        Some(before) if (before.per, before.drain) != (per, drain) => tick + 1,
        Some(before) => before.rate_since,
        None => tick,
    };
    Bucket { level, updated_at: now, per, drain, rate_since }
}

/// What `bucket` gives back of `amount` that was charged at `charged_at` and not used: what time has
/// not drained since. Nothing where another rate has been in force since then.
#[must_use]
pub fn refund(
    bucket: Bucket,
    amount: u64,
    charged_at: Micros,
    throttle: &Throttle,
    now: Micros,
) -> u64 {
    let same_rate = (bucket.per, bucket.drain) == (throttle.per(), throttle.drain());
    if !same_rate || charged_at > now || charged_at.get() / TICK_MICROS < bucket.rate_since {
        return 0;
    }
    amount.saturating_sub(now.since(charged_at).get().saturating_mul(throttle.drain()))
}

/// The level at `now`, in the throttle's own `1/per` units.
///
/// A clock that stepped back drains nothing; see [`is_ahead`].
#[must_use]
pub fn level(bucket: Option<Bucket>, throttle: &Throttle, now: Micros) -> u64 {
    let Some(bucket) = bucket else { return 0 };
    let level = convert_level(bucket.level, bucket.per, throttle.per());
    level.saturating_sub(now.since(bucket.updated_at).get().saturating_mul(throttle.drain()))
}

/// Whether the clock has stepped back behind the bucket's last writing.
///
/// Such a bucket is written again by whoever sees it, with its level as of `now`: time runs on from
/// there. Left as it is, a full one would stay full until the clock has caught up.
#[must_use]
pub fn is_ahead(bucket: Option<Bucket>, now: Micros) -> bool {
    bucket.is_some_and(|bucket| bucket.updated_at > now)
}

/// How many whole units fit on top of `level`.
#[must_use]
pub fn remaining(level: u64, throttle: &Throttle) -> u64 {
    throttle.size().saturating_sub(level) / throttle.per()
}

/// How long until `amount` fits on top of `level`, for an amount that can fit at all.
#[must_use]
pub fn wait(level: u64, amount: u64, throttle: &Throttle) -> Micros {
    Micros::new((level + amount).saturating_sub(throttle.size()).div_ceil(throttle.drain()))
}

/// How long until the bucket is empty.
#[must_use]
pub fn until_empty(level: u64, throttle: &Throttle) -> Micros {
    Micros::new(level.div_ceil(throttle.drain()))
}

/// How long until one unit more fits than now; nothing where the bucket is empty.
#[must_use]
pub fn until_next_unit(level: u64, throttle: &Throttle) -> Micros {
    if level == 0 {
        return Micros::ZERO;
    }
    wait(level, throttle.amount(remaining(level, throttle) + 1), throttle)
}

/// `level / from` in parts of `to`, rounded up, at most 2^53 - 1.
///
/// Written with what Lua has too: exact while the product fits into a double, and otherwise up
/// to 2^-49 of a unit more, which is never less than exact.
fn convert_level(level: u64, from: u64, to: u64) -> u64 {
    if from == to || level == 0 {
        return level;
    }
    let (whole, rest) = (level / from, level % from);
    let product = u128::from(rest) * u128::from(to);
    let part = if product <= u128::from(MAX_EXACT) {
        u64::try_from(product.div_ceil(u128::from(from))).unwrap_or(to)
    } else {
        convert_in_doubles(rest, from, to).min(to)
    };
    whole
        .checked_mul(to)
        .and_then(|whole| whole.checked_add(part))
        .unwrap_or(MAX_EXACT)
        .min(MAX_EXACT)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the same doubles as in Lua, all below 2^53 and above 0"
)]
fn convert_in_doubles(rest: u64, from: u64, to: u64) -> u64 {
    (rest as f64 / from as f64 * to as f64 * (1.0 + 0.5_f64.powi(50))).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Rate;
    use proptest::prelude::*;

    fn throttle(rate: &str, burst: u64) -> Throttle {
        Throttle::new(rate.parse::<Rate>().unwrap(), burst).unwrap()
    }

    #[test]
    #[rustfmt::skip]
    fn a_bucket_drains_by_the_clock_and_never_freezes() {
        let ten = throttle("10/s", 5); // one unit per 100,000 us
        let full = updated(None, ten.size(), &ten, Micros::from_secs(100));
        let cases = [
            // why                                            now                      level         wait for 1
            ("full at once",                                  100_000_000,             ten.size(),   100_000),
            ("a microsecond early is too early",              100_099_999,             400_001,      1),
            ("one interval makes room for one",               100_100_000,             400_000,      0),
            ("half a second empties it",                      100_500_000,             0,            0),
            ("a year later it is empty, not negative",        31_536_000_000_000,      0,            0),
            ("an hour back drains nothing",                   90_000_000,              ten.size(),   100_000),
        ];
        for (why, now, left, waiting) in cases {
            let now_level = level(Some(full), &ten, Micros::new(now));
            assert_eq!(now_level, left, "{why}");
            assert_eq!(wait(now_level, ten.amount(1), &ten), Micros::new(waiting), "{why}");
        }
    }

    #[test]
    fn the_next_unit_comes_when_remaining_grows() {
        let slow = throttle("3/min", 4);
        for level in
            [0, 1, slow.per() - 1, slow.per(), slow.size() - 1, slow.size(), slow.size() + 7]
        {
            let wait = until_next_unit(level, &slow);
            let later = level.saturating_sub(wait.get() * slow.drain());
            let grown = remaining(later, &slow) - remaining(level, &slow);
            assert_eq!(grown, u64::from(level > 0), "level {level}");
        }
    }

    #[test]
    fn whole_units_keep_their_number_when_the_rate_changes() {
        assert_eq!(convert_level(3 * 100_000, 100_000, 86_400), 3 * 86_400);
        assert_eq!(convert_level(0, 7, 1 << 40), 0);
        assert_eq!(convert_level(MAX_EXACT, 1, 2), MAX_EXACT);
    }

    proptest! {
        #[test]
        fn a_converted_level_is_never_lower_and_at_most_a_whisker_higher(
            level in 0..=MAX_EXACT, from in 1_u64..1 << 40, to in 1_u64..1 << 40,
        ) {
            let exact = u128::from(level) * u128::from(to);
            let got = u128::from(convert_level(level, from, to));
            if got < u128::from(MAX_EXACT) {
                prop_assert!(got * u128::from(from) >= exact);
                let most = exact.div_ceil(u128::from(from)) + 1 + (u128::from(to) >> 48);
                prop_assert!(got <= most, "{got} > {most}");
            }
        }
    }
}
