//! The reply to a call, as `lua/check.lua` defines it: numbers of seven bytes, or an array if a
//! check failed and its reply is a text.
//!
//! Decoding it is the node's.

use super::charge::{PackedCharge, Sizes};
use super::damage::Damage;
use crate::judge::{JudgedCharge as _, Verdict};
use crate::time::Micros;

/// Bytes of a number.
const NUMBER: usize = 7;

/// The codes of checks that were not judged.
const WINDOW_MISS: i64 = 2;
const DAY_ROLLOVER: i64 = 3;
const NEW_SUBJECT: i64 = 7;

/// The reply to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Numbers, each of seven bytes, little-endian and signed.
    Packed(Vec<u8>),
    /// The same numbers, and texts where a check failed.
    Mixed(Vec<ReplyValue>),
}

/// A value of a reply that has texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyValue {
    /// A number.
    Number(i64),
    /// The reason why a check failed.
    Text(String),
}

/// A reply that is being built.
pub(super) struct ReplyBuilder {
    packed: Vec<u8>,
    /// The texts, each with the number of numbers before it.
    texts: Vec<(usize, Damage)>,
}

impl ReplyBuilder {
    /// The reply of a call that is judged at `now` and has so many charges.
    pub(super) fn new(now: Micros, charges: usize) -> Self {
        // A verdict and two numbers for each charge, at most.
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
        for (charge, state) in charges.iter().zip(&verdict.states) {
            self.push(state.level);
            match charge.limit.sizes {
                Sizes::Bucket(_) => {}
                Sizes::Quota(_) => self.push(state.window.get().cast_signed()),
                Sizes::Slots(_) => self.push(state.expired_slots.cast_signed()),
            }
        }
    }

    /// Adds the reply to a check for which Redis' clock lies outside the offered windows.
    pub(super) fn push_window_miss(&mut self) {
        self.push(WINDOW_MISS);
    }

    /// Adds the reply to a check before which a day of usage has to be kept.
    pub(super) fn push_day_rollover(&mut self) {
        self.push(DAY_ROLLOVER);
    }

    /// Adds the reply to a check with a subject that is new and not charged: its first charge that is
    /// refused for it, from 1.
    pub(super) fn push_new_subject(&mut self, charges: &[PackedCharge<'_>], key: usize) {
        let is_refused = |charge: &PackedCharge<'_>| {
            charge.key == key && charge.is_open_ended() && charge.amount > 0
        };
        let index = charges.iter().position(is_refused).unwrap_or_default();
        self.push(NEW_SUBJECT);
        self.push(i64::try_from(index + 1).unwrap_or_default());
    }

    /// Adds the reply to a check that failed.
    pub(super) fn push_damage(&mut self, damage: Damage) {
        self.texts.push((self.packed.len() / NUMBER, damage));
    }

    /// The reply.
    pub(super) fn finish(self) -> Reply {
        if self.texts.is_empty() {
            return Reply::Packed(self.packed);
        }
        let mut values = Vec::with_capacity(self.packed.len() / NUMBER + self.texts.len());
        let mut texts = self.texts.into_iter().peekable();
        let mut add_texts = |values: &mut Vec<ReplyValue>, numbers: usize| {
            while let Some((_, damage)) = texts.next_if(|(before, _)| *before == numbers) {
                values.push(ReplyValue::Text(damage.to_string()));
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
