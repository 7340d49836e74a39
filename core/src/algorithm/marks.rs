//! Low-water marks: how far a token bucket has drained since each open reservation was charged.
//! Twin of the part of `lua/token_bucket.lua` that keeps them; change them together.
//!
//! A reservation that is settled for less than it was charged gives back the difference, but only
//! as far as time has not drained it already: `min(E - A, lowest level since the charge)`. Then the
//! level is what it would be had `A` been charged at the start (a bucket is a reflected walk:
//! taking `d` off its past lowers it by `d`, less what the walk would have been held up by at 0).
//! Marks count by the numbers of reservations and not by time, so they hold over steps of the clock
//! and changes of the rate.
//!
//! There are [`MAX_MARKS`] at most. A reservation whose mark was dropped uses the next older one,
//! whose low is lower: it gives back less, never too much.

use smallvec::SmallVec;

use super::reserving::number_in;
use super::token_bucket::{Bucket, level};
use super::{
    AdjustedCounter, ChargeChange, Correction, CounterState, Counting as _, NewCharge,
    ReservedCharge, Reserving, Row, StoredCounter, Throttle, WindowMiss, Windows, Written,
};
use crate::time::{MAX_EXACT, Micros};

/// The most marks of one token bucket: with 8 the pessimism is 0.0 % of the burst, with 4 it is 0.5
/// % (`docs/adr/0006-low-water-marks.md`).
const MAX_MARKS: usize = 8;

/// Bytes of the level and its time that precede the marks.
const HEAD: usize = 14;
/// Bytes of a mark: its number and its low.
const MARK: usize = 13;

/// The lowest level since the reservation of this number was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    number: u64,
    low: u64,
}

/// The marks of one token bucket: numbers and lows both rise. No mark has a low of 0, since no mark
/// means the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Marks(SmallVec<[Mark; MAX_MARKS + 1]>);

impl Marks {
    /// The marks in the annex of a token bucket, in parts of `1/per`.
    ///
    /// The annex repeats the level and time that the bucket was written with. A bucket with
    /// others was written by a release that knows no marks: then there are none.
    fn read(annex: &[u8], bucket: Option<Bucket>, per: u64) -> Self {
        let Some((bucket, (head, marks))) = bucket.zip(annex.split_at_checked(HEAD)) else {
            return Self::default();
        };
        let [level, time] = [number_in(&head[..7]), number_in(&head[7..])];
        if (level, time) != (bucket.level, bucket.updated_at.get()) {
            return Self::default();
        }
        let mark = |bytes: &[u8]| Mark {
            number: number_in(&bytes[..6]),
            low: convert_low(number_in(&bytes[6..]), bucket.per, per),
        };
        let marks: SmallVec<_> = marks.chunks_exact(MARK).map(mark).collect();
        let mut read = Self(marks);
        read.restore_order();
        read
    }

    /// The annex for a token bucket that is written as this row; empty without marks.
    fn pack(&self, written: &Row) -> Vec<u8> {
        let Some(bucket) = Bucket::from_row(written).filter(|_| !self.0.is_empty()) else {
            return Vec::new();
        };
        let mut annex = Vec::with_capacity(HEAD + MARK * self.0.len());
        annex.extend_from_slice(&bucket.level.to_le_bytes()[..7]);
        annex.extend_from_slice(&bucket.updated_at.get().to_le_bytes()[..7]);
        for Mark { number, low } in &self.0 {
            annex.extend_from_slice(&number.to_le_bytes()[..6]);
            annex.extend_from_slice(&low.to_le_bytes()[..7]);
        }
        annex
    }

    /// Notes that the level has been as low as `level`: every higher low is that now.
    fn cut(&mut self, level: u64) {
        for mark in &mut self.0 {
            mark.low = mark.low.min(level);
        }
        self.restore_order();
    }

    /// Adds the mark of a reservation whose charge has raised the level to `level`. Marks of later
    /// numbers belong to an earlier life of the subject's numbers and are dropped.
    fn add(&mut self, number: u64, level: u64) {
        self.0.retain(|mark| mark.number < number);
        if self.0.last().is_none_or(|newest| newest.low < level) {
            self.0.push(Mark { number, low: level });
        }
        if self.0.len() > MAX_MARKS {
            let dropped = self.least_loss();
            self.0.remove(dropped);
        }
    }

    /// Gives back up to `amount` of the reservation of this number, and returns what is given: the
    /// lows since its charge fall by as much.
    fn give(&mut self, number: u64, amount: u64) -> u64 {
        let Some(place) = self.0.iter().rposition(|mark| mark.number <= number) else { return 0 };
        let given = amount.min(self.0[place].low);
        for mark in &mut self.0[place..] {
            mark.low -= given;
        }
        self.restore_order();
        given
    }

    /// The place of the mark whose loss costs least: its reservations would use the next lower low.
    /// Never the oldest mark, and of equal losses the oldest.
    fn least_loss(&self) -> usize {
        let loss = |place: usize| {
            let (mark, older) = (self.0[place], self.0[place - 1]);
            let next = self.0.get(place + 1).map_or(mark.number + 1, |next| next.number);
            // Numbers of a damaged annex may fall.
            to_double(mark.low - older.low) * (to_double(next) - to_double(mark.number))
        };
        let places = 1..self.0.len();
        places.min_by(|&one, &other| loss(one).total_cmp(&loss(other))).unwrap_or_default()
    }

    /// Makes lows rise again: no older low is above a newer one, of equal lows the oldest mark
    /// stays, and lows of 0 are dropped.
    fn restore_order(&mut self) {
        let mut lowest = u64::MAX;
        for mark in self.0.iter_mut().rev() {
            lowest = lowest.min(mark.low);
            mark.low = lowest;
        }
        self.0.dedup_by(|newer, older| newer.low == older.low);
        self.0.retain(|mark| mark.low > 0);
    }
}

impl Reserving for Throttle {
    fn follow(&self, annex: Vec<u8>, before: Option<&Row>, level: i64, written: &Row) -> Vec<u8> {
        let mut marks = Marks::read(&annex, before.and_then(Bucket::from_row), self.per());
        let written_level = Bucket::from_row(written).map_or(0, |bucket| bucket.level);
        marks.cut(written_level.min(level.unsigned_abs()));
        marks.pack(written)
    }

    fn reserve(
        &self,
        (before, annex): StoredCounter<'_>,
        state: CounterState,
        charge: NewCharge,
        offered: Option<&Windows>,
        now: Micros,
    ) -> (Written, Vec<u8>) {
        let mut marks = Marks::read(annex, before.and_then(Bucket::from_row), self.per());
        marks.cut(state.unsigned_level());
        let after = (state.unsigned_level() + charge.amount).min(MAX_EXACT);
        marks.add(charge.number, after);
        let state = CounterState { level: after.cast_signed(), ..state };
        let written = self.write(before, state, offered, now);
        let annex = marks.pack(&written.0);
        (written, annex)
    }

    fn adjust(
        &self,
        (before, annex): StoredCounter<'_>,
        charged: &ReservedCharge,
        change: ChargeChange,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<AdjustedCounter, WindowMiss> {
        let bucket = before.and_then(Bucket::from_row);
        let mut level = level(bucket, self, now);
        let mut marks = Marks::read(annex, bucket, self.per());
        marks.cut(level);
        let [from, to] = [self.amount(charged.units), self.amount(change.units)];
        if to >= from {
            level = (level + (to - from)).min(MAX_EXACT);
        } else if let Some(number) = charged.number {
            level -= marks.give(number, from - to);
        }
        let state = CounterState::in_window(level.cast_signed(), charged.window);
        if bucket.is_none() && level == 0 {
            return Ok(AdjustedCounter { written: None, annex: None, state });
        }
        let written = self.write(before, state, offered, now);
        let annex = Some(marks.pack(&written.0));
        Ok(AdjustedCounter { written: Some(written), annex, state })
    }

    fn correct_annex(&self, correction: Correction, _: u64) -> Option<Vec<u8>> {
        (correction == Correction::Reset).then(Vec::new)
    }
}

/// `low / from` in parts of `to`, rounded down: with operations that Lua has too, exact while the
/// product fits into a double, and otherwise up to 2^-49 of a unit less.
fn convert_low(low: u64, from: u64, to: u64) -> u64 {
    if from == to {
        return low;
    }
    let (whole, rest) = (low / from, low % from);
    let product = u128::from(rest) * u128::from(to);
    let part = if product <= u128::from(MAX_EXACT) {
        u64::try_from(product / u128::from(from)).unwrap_or_default()
    } else {
        inexact(rest, from, to)
    };
    let sum = whole.checked_mul(to).and_then(|whole| whole.checked_add(part));
    sum.unwrap_or(MAX_EXACT).min(MAX_EXACT)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the same doubles as in Lua, all below 2^53 and above 0"
)]
fn inexact(rest: u64, from: u64, to: u64) -> u64 {
    let product = to_double(rest) / to_double(from) * to_double(to);
    (product * (1.0 - 0.5_f64.powi(50))).floor() as u64
}

#[expect(clippy::cast_precision_loss, reason = "the same doubles as in Lua")]
fn to_double(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marks(marks: &[(u64, u64)]) -> Marks {
        Marks(marks.iter().map(|&(number, low)| Mark { number, low }).collect())
    }

    #[test]
    fn of_equal_lows_the_older_mark_stays_and_a_low_of_zero_is_no_mark() {
        let mut cut = marks(&[(1, 10), (2, 20), (5, 30)]);
        cut.cut(20);
        assert_eq!(cut, marks(&[(1, 10), (2, 20)]));
        cut.cut(0);
        assert_eq!(cut, marks(&[]));
    }

    #[test]
    fn a_settlement_lowers_newer_lows_by_what_was_given_and_older_ones_to_at_most_those() {
        let mut given = marks(&[(1, 10), (2, 20), (5, 30)]);
        // Reservation 3 has lost its mark and uses that of 2.
        assert_eq!(given.give(3, 15), 15);
        assert_eq!(given, marks(&[(1, 5), (5, 15)]));
        assert_eq!(given.give(0, 15), 0);
        assert_eq!(given.give(9, 99), 15);
        assert_eq!(given, marks(&[]));
    }

    #[test]
    fn a_bucket_that_was_written_without_its_marks_gives_nothing_back() {
        let bucket =
            Bucket { level: 50, updated_at: Micros::new(9), per: 1, drain: 1, rate_since: 0 };
        let mut annex = [50_u64, 9].map(|number| number.to_le_bytes()[..7].to_vec()).concat();
        annex.extend_from_slice(&[1, 0, 0, 0, 0, 0, 40, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Marks::read(&annex, Some(bucket), 1), marks(&[(1, 40)]));
        let [other_level, other_time] =
            [Bucket { level: 49, ..bucket }, Bucket { updated_at: Micros::new(8), ..bucket }];
        for written in [Some(other_level), Some(other_time), None] {
            assert_eq!(Marks::read(&annex, written, 1), marks(&[]));
        }
    }

    #[test]
    fn marks_of_later_numbers_belong_to_an_earlier_life_and_are_dropped() {
        let mut reborn = marks(&[(1, 10), (7, 20)]);
        reborn.add(2, 40);
        assert_eq!(reborn, marks(&[(1, 10), (2, 40)]));
    }

    #[test]
    fn of_nine_marks_the_one_whose_loss_costs_least_goes_and_never_the_oldest() {
        let rising: Vec<(u64, u64)> = (1..=8).map(|number| (number, 10 * number)).collect();
        let mut full = marks(&rising);
        // All losses are equal: the oldest candidate goes.
        full.add(9, 90);
        assert_eq!(
            full.0.iter().map(|mark| mark.number).collect::<Vec<_>>(),
            [1, 3, 4, 5, 6, 7, 8, 9]
        );
        let mut skewed = marks(&rising);
        skewed.add(9, 81);
        assert_eq!(skewed.0.last().unwrap().number, 8);
    }

    proptest! {
        #[test]
        fn a_converted_low_is_never_higher_and_at_most_a_whisker_lower(
            low in 0..=MAX_EXACT, from in 1_u64..1 << 40, to in 1_u64..1 << 40,
        ) {
            let exact = u128::from(low) * u128::from(to);
            let got = u128::from(convert_low(low, from, to));
            if exact / u128::from(from) < u128::from(MAX_EXACT) {
                prop_assert!(got * u128::from(from) <= exact);
                let least = (exact / u128::from(from)).saturating_sub(1 + (u128::from(to) >> 48));
                prop_assert!(got >= least, "{got} < {least}");
            }
        }
    }
}
