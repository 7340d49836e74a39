//! The reply to a call, as `lua/check.lua` and `lua/reservations.lua` define it: numbers of seven
//! bytes, or an array if a check failed and its reply is a text, or a reservation was open already.
//!
//! Decoding it is the node's.

use super::charge::{PackedCharge, Sizes};
use super::damage::Damage;
use crate::algorithm::CounterState;
use crate::judge::reservation::{Adjusted, Reserved};
use crate::judge::{JudgedCharge as _, NotJudged, Verdict};
use crate::limit::AdjustedUnits;
use crate::time::Micros;

/// Bytes of a number.
const NUMBER: usize = 7;

/// The codes of checks that were not judged.
const WINDOW_MISS: i64 = 2;
const DAY_ROLLOVER: i64 = 3;
const NEW_SUBJECT: i64 = 7;

/// The codes of a reservation that is open already: by the same check, and by another one.
const REPLAYED: i64 = 4;
const CONFLICT: i64 = 5;

/// The codes of adjustments.
const UNKNOWN: i64 = 0;
const DONE: i64 = 1;
const DONE_LATE: i64 = 6;

/// In place of the units of a charge that was not made.
const NOT_MADE: i64 = -1;

/// The reply to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Numbers, each of seven bytes, little-endian and signed.
    Packed(Vec<u8>),
    /// The same numbers, and texts.
    Mixed(Vec<ReplyValue>),
}

/// A value of a reply that has texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyValue {
    /// A number.
    Number(i64),
    /// The reason why a check failed, or the terms of a reservation.
    Text(Vec<u8>),
}

/// A reply that is being built.
pub(super) struct ReplyBuilder {
    packed: Vec<u8>,
    /// The texts, each with the number of numbers before it.
    texts: Vec<(usize, Vec<u8>)>,
}

impl ReplyBuilder {
    /// The reply of a call that is judged at `now` and has so many charges.
    pub(super) fn new(now: Micros, charges: usize) -> Self {
        // A verdict and two numbers for each charge, at most; or its units instead.
        let packed = Vec::with_capacity(NUMBER * (1 + 3 * charges));
        let mut builder = Self { packed, texts: Vec::new() };
        builder.push(now.get().cast_signed());
        builder
    }

    fn push(&mut self, number: i64) {
        self.packed.extend_from_slice(&number.to_le_bytes()[..NUMBER]);
    }

    /// Adds a verdict, and for each charge the state of its counter before.
    pub(super) fn push_verdict(&mut self, charges: &[PackedCharge<'_>], verdict: &Verdict) {
        self.push(verdict.allowed.into());
        self.push_states(charges, verdict);
    }

    fn push_states(&mut self, charges: &[PackedCharge<'_>], verdict: &Verdict) {
        for (charge, state) in charges.iter().zip(&verdict.states) {
            self.push_state(charge, state);
        }
    }

    fn push_state(&mut self, charge: &PackedCharge<'_>, state: &CounterState) {
        self.push(state.level);
        match charge.limit.sizes {
            Sizes::Bucket(_) => {}
            Sizes::Quota(_) => self.push(state.window.get().cast_signed()),
            Sizes::Slots(_) => self.push(state.expired_slots.cast_signed()),
        }
    }

    /// Adds the reply to a check that opens a reservation.
    pub(super) fn push_reserved(&mut self, charges: &[PackedCharge<'_>], reserved: &Reserved) {
        match reserved {
            Reserved::Judged(verdict) => self.push_verdict(charges, verdict),
            Reserved::Replayed(verdict, terms) => {
                self.push(REPLAYED);
                self.push_states(charges, verdict);
                self.push_text(terms.as_bytes().into());
            }
            Reserved::Conflict => self.push(CONFLICT),
        }
    }

    /// Adds the reply to an adjustment: for each charge the units that were charged before, and the
    /// state of its counter unless the limit no longer exists.
    pub(super) fn push_adjusted(
        &mut self,
        looks: &[(Option<PackedCharge<'_>>, AdjustedUnits)],
        adjusted: &Adjusted,
    ) {
        let Adjusted::Done { is_late, charges } = adjusted else { return self.push(UNKNOWN) };
        self.push(if *is_late { DONE_LATE } else { DONE });
        for ((look, _), adjusted) in looks.iter().zip(charges) {
            self.push(adjusted.charged.map_or(NOT_MADE, u64::cast_signed));
            if let Some((look, state)) = look.as_ref().zip(adjusted.state.as_ref()) {
                self.push_state(look, state);
            }
        }
    }

    /// Adds the reply to a check that was not judged.
    pub(super) fn push_not_judged(&mut self, charges: &[PackedCharge<'_>], why: NotJudged<usize>) {
        match why {
            NotJudged::WindowMiss => self.push(WINDOW_MISS),
            NotJudged::DayRollover => self.push(DAY_ROLLOVER),
            NotJudged::NewSubject(key) => self.push_new_subject(charges, key),
        }
    }

    /// Adds the reply to a check with a subject that is new and not charged: its first charge that is
    /// refused for it, from 1.
    fn push_new_subject(&mut self, charges: &[PackedCharge<'_>], key: usize) {
        let is_refused = |charge: &PackedCharge<'_>| {
            charge.key == key && charge.is_open_ended() && charge.amount > 0
        };
        let index = charges.iter().position(is_refused).unwrap_or_default();
        self.push(NEW_SUBJECT);
        self.push(i64::try_from(index + 1).unwrap_or_default());
    }

    /// Adds the reply to a check that failed.
    pub(super) fn push_damage(&mut self, damage: Damage) {
        self.push_text(damage.to_string().into_bytes());
    }

    fn push_text(&mut self, text: Vec<u8>) {
        self.texts.push((self.packed.len() / NUMBER, text));
    }

    /// The reply.
    pub(super) fn finish(self) -> Reply {
        if self.texts.is_empty() {
            return Reply::Packed(self.packed);
        }
        let mut values = Vec::with_capacity(self.packed.len() / NUMBER + self.texts.len());
        let mut texts = self.texts.into_iter().peekable();
        let mut add_texts = |values: &mut Vec<ReplyValue>, numbers: usize| {
            while let Some((_, text)) = texts.next_if(|(before, _)| *before == numbers) {
                values.push(ReplyValue::Text(text));
            }
        };
        for (index, bytes) in self.packed.chunks_exact(NUMBER).enumerate() {
            add_texts(&mut values, index);
            let mut number = [0; 8];
            number[1..].copy_from_slice(bytes);
            // Shifted down again, so that the sign fills the highest byte.
            values.push(ReplyValue::Number(i64::from_le_bytes(number) >> 8));
        }
        add_texts(&mut values, self.packed.len() / NUMBER);
        Reply::Mixed(values)
    }
}
