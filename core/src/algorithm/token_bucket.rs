//! The token bucket: a level that drains at a constant rate. Twin of `lua/token_bucket.lua`; change
//! them together.
//!
//! The state is the level and not the number of tokens left: a missing row is an empty bucket, a
//! changed burst or rate applies at once, and nothing has to be refilled.

use super::{
    ChargeTime, Corrected, Correction, CounterState, Counting, Forecast, Reading, Row, RowKind,
    StoredCounter, Throttle, WindowMiss, Windows, Written, encode_double,
};
use crate::time::{MAX_EXACT, Micros};

/// The resolution of [`Bucket::rate_since`]: 2^20 µs.
pub const TICK_MICROS: u64 = 1 << 20;

/// A token bucket's row: its level, and the rate that has been draining it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The level, in `1/per` units.
    pub level: u64,
    /// The time of that level.
    pub updated_at: Micros,
    /// The parts into which the level divides one unit.
    pub per: u64,
    /// The parts that drain per microsecond.
    pub drain: u64,
    /// The start of that rate, in [`TICK_MICROS`]s since 1970.
    pub rate_since: u64,
}

impl Bucket {
    /// The token bucket in a row; `None` in a row of another kind, or without a rate.
    #[must_use]
    pub fn from_row(row: &Row) -> Option<Self> {
        let bucket = (row.kind() == RowKind::TOKEN_BUCKET).then(|| Self {
            level: row.number::<7>(0),
            updated_at: Micros::new(row.number::<7>(7)),
            per: row.number::<5>(14),
            drain: row.number::<5>(19),
            rate_since: row.number::<4>(24),
        });
        bucket.filter(|bucket| bucket.per > 0 && bucket.drain > 0)
    }

    fn to_row(self) -> Row {
        let Self { level, updated_at, per, drain, rate_since } = self;
        let row = Row::empty(RowKind::TOKEN_BUCKET);
        let row = row.with::<7>(level).with::<7>(updated_at.get());
        row.with::<5>(per).with::<5>(drain).with::<4>(rate_since)
    }

    /// The time at which it has drained.
    fn empty_at(&self) -> Micros {
        self.updated_at + Micros::new(self.level.div_ceil(self.drain))
    }
}

/// The time from which the row means the same as a missing one.
pub(super) fn expiry(row: &Row) -> Option<Micros> {
    Bucket::from_row(row).map(|bucket| bucket.empty_at())
}

impl Counting for Throttle {
    fn row_kind(&self) -> RowKind {
        RowKind::TOKEN_BUCKET
    }

    fn capacity(&self) -> u64 {
        self.burst()
    }

    fn size(&self) -> u64 {
        self.burst() * self.per()
    }

    fn amount(&self, cost: u64) -> u64 {
        cost.saturating_mul(self.per()).min(MAX_EXACT)
    }

    fn window(&self) -> Micros {
        self.time_to_drain(self.size())
    }

    fn identity(&self) -> Vec<Vec<u8>> {
        vec![b"throttle".to_vec()]
    }

    fn per_node_share(&self, nodes: u64) -> Self {
        self.divided_by(nodes)
    }

    fn is_leasable(&self) -> bool {
        true
    }

    fn drained(&self, elapsed: Micros) -> u64 {
        elapsed.get().saturating_mul(self.drain())
    }

    fn time_to_drain(&self, level: u64) -> Micros {
        Micros::new(level.div_ceil(self.drain()))
    }

    fn read(
        &self,
        (row, _): StoredCounter<'_>,
        _: Option<&Windows>,
        now: Micros,
    ) -> Result<Reading, WindowMiss> {
        let bucket = row.and_then(Bucket::from_row);
        Ok(Reading {
            state: state_of(level(bucket, self, now)),
            is_ahead: bucket.is_some_and(|bucket| bucket.updated_at > now),
            is_rollover: false,
        })
    }

    fn write(
        &self,
        before: Option<&Row>,
        state: CounterState,
        _: Option<&Windows>,
        now: Micros,
    ) -> Written {
        let bucket = updated(before.and_then(Bucket::from_row), state.unsigned_level(), self, now);
        (bucket.to_row(), bucket.empty_at())
    }

    fn refund(&self, row: &Row, amount: u64, charged: ChargeTime, now: Micros) -> Option<Written> {
        let bucket = Bucket::from_row(row)?;
        let given = refundable(bucket, amount, charged.at, self, now);
        let level = level(Some(bucket), self, now).saturating_sub(given);
        (given > 0).then(|| self.write(Some(row), state_of(level), None, now))
    }

    /// Only a reset applies. It counts as another rate: charges from before refund nothing any
    /// more.
    fn correct(
        &self,
        row: Option<&Row>,
        correction: Correction,
        _: impl Fn(u64) -> i64,
        _: Option<&Windows>,
        now: Micros,
    ) -> Result<Option<Corrected>, WindowMiss> {
        let applies = correction == Correction::Reset && row.is_some();
        let empty =
            Bucket { rate_since: now.get() / TICK_MICROS + 1, ..updated(None, 0, self, now) };
        Ok(applies.then(|| Corrected { written: (empty.to_row(), now), granted: None }))
    }

    fn changed_at(&self, row: &Row) -> Option<Micros> {
        Bucket::from_row(row).map(|bucket| bucket.updated_at)
    }

    fn forecast(&self, before: CounterState, level: i64, amount: u64, _: Micros) -> Forecast {
        let level = level.unsigned_abs();
        Forecast {
            remaining: self.remaining(level),
            reset: self.time_to_drain(level),
            wait: wait(before.unsigned_level(), amount, self),
            next_unit: until_next_unit(level, self),
        }
    }

    fn script_charge_time(&self, charged: ChargeTime) -> u64 {
        charged.at.get()
    }

    fn pack(&self, out: &mut Vec<u8>, _: Micros) {
        for number in [self.drain(), self.per(), self.size()] {
            out.extend_from_slice(&encode_double(number));
        }
    }
}

fn state_of(level: u64) -> CounterState {
    CounterState::of_level(level.cast_signed())
}

/// The token bucket to write over `before` for this level.
fn updated(before: Option<Bucket>, level: u64, throttle: &Throttle, now: Micros) -> Bucket {
    let (per, drain, tick) = (throttle.per(), throttle.drain(), now.get() / TICK_MICROS);
    let rate_since = match before {
        // A charge of this tick may have been made before the rate changed.
        Some(before) if (before.per, before.drain) != (per, drain) => tick + 1,
        Some(before) => before.rate_since,
        None => tick,
    };
    Bucket { level, updated_at: now, per, drain, rate_since }
}

/// The part of `amount`, charged at `charged_at` and not used, that time has not drained since.
/// Nothing if another rate has been in force since then.
fn refundable(
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
    amount.saturating_sub(throttle.drained(now.since(charged_at)))
}

/// The level at `now`, in the throttle's own `1/per` units. A clock that stepped back drains
/// nothing.
pub(super) fn level(bucket: Option<Bucket>, throttle: &Throttle, now: Micros) -> u64 {
    let Some(bucket) = bucket else { return 0 };
    let level = convert_level(bucket.level, bucket.per, throttle.per());
    level.saturating_sub(throttle.drained(now.since(bucket.updated_at)))
}

/// The time until `amount` fits on top of `level`, for an amount that can fit at all.
fn wait(level: u64, amount: u64, throttle: &Throttle) -> Micros {
    throttle.time_to_drain((level + amount).saturating_sub(throttle.size()))
}

/// The time until one more unit fits than now; zero if the token bucket is empty.
fn until_next_unit(level: u64, throttle: &Throttle) -> Micros {
    if level == 0 {
        return Micros::ZERO;
    }
    wait(level, throttle.amount(throttle.remaining(level) + 1), throttle)
}

/// `level / from` in parts of `to`, rounded up, at most 2^53 - 1.
///
/// Computed with operations that Lua has too: exact while the product fits into a double, and
/// otherwise up to 2^-49 of a unit more, never less than exact.
fn convert_level(level: u64, from: u64, to: u64) -> u64 {
    if from == to || level == 0 {
        return level;
    }
    let (whole, rest) = (level / from, level % from);
    let product = u128::from(rest) * u128::from(to);
    let part = if product <= u128::from(MAX_EXACT) {
        u64::try_from(product.div_ceil(u128::from(from))).unwrap_or(to)
    } else {
        inexact(rest, from, to).min(to)
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
fn inexact(rest: u64, from: u64, to: u64) -> u64 {
    (rest as f64 / from as f64 * to as f64 * (1.0 + 0.5_f64.powi(50))).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Rate;
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
            let grown = slow.remaining(later) - slow.remaining(level);
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
