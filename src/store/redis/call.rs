//! The arguments of one call of the check script, in the bytes that `lua/limits.lua` and
//! `lua/check.lua` define. Sending them is `script`'s.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::script::ScriptArgs;
use crate::algorithm::{Counting as _, encode_double};
use crate::limit::{
    AdjustedUnits, Adjustment, AdjustmentKind, Charge, ChargeAdjustment, Limit, NewReservation,
    Refund, ReservationName, ReservationTerms, Subject,
};
use crate::time::Micros;

/// The sign bit of a double's last byte: the amount of a charge that is made in any case is
/// negative.
const SIGN_BIT: u8 = 1 << 7;

/// The codes of operations on reservations, above any number of charges.
const RESERVE: u8 = 251;
const ADJUST: u8 = 252;
/// The code before a check or a reserve that writes nothing.
const DRY_RUN: u8 = 253;

/// The arguments of one call that judges checks.
#[derive(Default)]
pub(super) struct CheckCall {
    tables: ArgumentTables,
    /// The keys of reservations.
    reservation_keys: Vec<String>,
    /// True if reservations must lie in the slot of their subjects.
    is_sharded: bool,
    /// The checks, packed.
    checks: Vec<u8>,
    /// The refunds, packed.
    refunds: Vec<u8>,
}

/// The subjects and limits of a call, each once; charges refer to them by index.
#[derive(Default)]
pub(super) struct ArgumentTables {
    /// True if subjects that callers make up are charged only if they have a key.
    refuses_new: bool,
    /// The subjects.
    pub(super) subjects: Vec<Subject>,
    /// The limits, packed.
    pub(super) limits: Vec<u8>,
    subject_index: HashMap<Subject, u16, BuildHasherDefault<DigestHasher>>,
    /// By address: the checks keep their limits alive while the call is assembled.
    limit_index: HashMap<usize, u16, BuildHasherDefault<DigestHasher>>,
}

/// A hash taken from the key itself: subjects are digests, and addresses are our own.
///
/// An attacker who finds colliding subjects slows down a call's few hundred checks, no more.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks_exact(8) {
            self.write_u64(part.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl ScriptArgs for CheckCall {
    const WITH_USAGE_KEYS: bool = false;

    fn subjects(&self) -> &[Subject] {
        &self.tables.subjects
    }

    fn reservation_keys(&self) -> &[String] {
        &self.reservation_keys
    }

    fn packed_args(&self) -> [&[u8]; 3] {
        [&self.tables.limits, &self.checks, &self.refunds]
    }
}

impl CheckCall {
    /// An empty call. In a Cluster all its subjects have one hash tag. With `refuses_new` it
    /// charges no new subject that callers make up.
    pub(super) fn new(is_sharded: bool, refuses_new: bool) -> Self {
        let tables = ArgumentTables { refuses_new, ..ArgumentTables::default() };
        Self { tables, is_sharded, ..Self::default() }
    }

    /// Adds a check. Quotas are offered the windows around `now`.
    pub(super) fn add_check(&mut self, charges: &[Charge], now: Micros) {
        self.checks.push(u8::try_from(charges.len()).unwrap_or(u8::MAX));
        for charge in charges {
            let [key, limit] = self.tables.intern(charge.subject, &charge.limit, now);
            let mut amount = encode_double(charge.amount());
            if charge.is_forced() {
                amount[7] |= SIGN_BIT;
            }
            self.checks.extend_from_slice(&key.to_le_bytes());
            self.checks.extend_from_slice(&limit.to_le_bytes());
            self.checks.extend_from_slice(&amount);
        }
    }

    /// Adds a check that opens a reservation if it is allowed.
    pub(super) fn add_reserve(&mut self, charges: &[Charge], new: &NewReservation, now: Micros) {
        let Some(first) = charges.first() else { return };
        let start = self.begin_operation(RESERVE);
        self.add_reservation_key(new.name, &first.subject);
        self.checks.extend_from_slice(&encode_double(new.ttl.get()));
        self.add_terms_len(&new.terms);
        self.checks.extend_from_slice(&new.check);
        self.checks.extend_from_slice(new.terms.as_bytes());
        self.add_check(charges, now);
        self.end_operation(start);
    }

    /// Adds a check, or one that opens `reservation`, of which nothing is written.
    pub(super) fn add_dry_run(
        &mut self,
        charges: &[Charge],
        reservation: Option<&NewReservation>,
        now: Micros,
    ) {
        self.checks.push(DRY_RUN);
        match reservation {
            Some(new) => self.add_reserve(charges, new, now),
            None => self.add_check(charges, now),
        }
    }

    /// Adds an adjustment of a reservation's charges.
    pub(super) fn add_adjustment(&mut self, adjustment: &Adjustment, now: Micros) {
        let Some(first) = adjustment.charges.first() else { return };
        let start = self.begin_operation(ADJUST);
        self.add_reservation_key(adjustment.name, &first.subject);
        let ttl = match adjustment.kind {
            AdjustmentKind::Close => Micros::ZERO,
            AdjustmentKind::Extend { ttl } => ttl,
        };
        self.checks.extend_from_slice(&encode_double(ttl.get()));
        self.add_terms_len(&adjustment.terms);
        self.checks.extend_from_slice(adjustment.terms.as_bytes());
        self.checks.push(u8::try_from(adjustment.charges.len()).unwrap_or(u8::MAX));
        for ChargeAdjustment { subject, limit, units } in &adjustment.charges {
            let intern = |limit| self.tables.intern(*subject, limit, now);
            for index in limit.as_ref().map_or([0, 0], intern) {
                self.checks.extend_from_slice(&index.to_le_bytes());
            }
            self.checks.extend_from_slice(&encode_units(*units));
        }
        self.end_operation(start);
    }

    /// Begins an operation, and returns the place of its length.
    fn begin_operation(&mut self, code: u8) -> usize {
        self.checks.push(code);
        self.checks.extend_from_slice(&[0; 4]);
        self.checks.len()
    }

    fn end_operation(&mut self, start: usize) {
        let len = u32::try_from(self.checks.len() - start).unwrap_or(u32::MAX);
        self.checks[start - 4..start].copy_from_slice(&len.to_le_bytes());
    }

    fn add_reservation_key(&mut self, name: ReservationName, subject: &Subject) {
        let mut key = String::with_capacity(53);
        name.write_redis_key(self.is_sharded.then_some(subject), &mut key);
        let known = self.reservation_keys.iter().position(|known| *known == key);
        let index = known.unwrap_or_else(|| {
            self.reservation_keys.push(key);
            self.reservation_keys.len() - 1
        });
        self.checks.extend_from_slice(&to_index(index + 1).to_le_bytes());
    }

    fn add_terms_len(&mut self, terms: &ReservationTerms) {
        self.checks.extend_from_slice(&to_index(terms.as_bytes().len()).to_le_bytes());
    }

    /// Adds a refund, which is made before all checks.
    pub(super) fn add_refund(&mut self, refund: &Refund, now: Micros) {
        let Refund { charge, charged } = refund;
        let [key, limit] = self.tables.intern(charge.subject, &charge.limit, now);
        let charge_time = charge.limit.algorithm().script_charge_time(*charged);
        self.refunds.extend_from_slice(&key.to_le_bytes());
        self.refunds.extend_from_slice(&limit.to_le_bytes());
        self.refunds.extend_from_slice(&encode_double(charge.amount()));
        self.refunds.extend_from_slice(&encode_double(charge_time));
    }
}

impl ArgumentTables {
    /// The indices of a subject and of a limit, from 1. Quotas are offered the windows around
    /// `now`.
    pub(super) fn intern(&mut self, subject: Subject, limit: &Arc<Limit>, now: Micros) -> [u16; 2] {
        [self.intern_subject(subject), self.intern_limit(limit, now)]
    }

    fn intern_subject(&mut self, subject: Subject) -> u16 {
        *self.subject_index.entry(subject).or_insert_with(|| {
            self.subjects.push(subject);
            to_index(self.subjects.len())
        })
    }

    pub(super) fn intern_limit(&mut self, limit: &Arc<Limit>, now: Micros) -> u16 {
        let next = to_index(self.limit_index.len() + 1);
        *self.limit_index.entry(Arc::as_ptr(limit).addr()).or_insert_with(|| {
            encode_limit(&mut self.limits, limit, self.refuses_new, now);
            next
        })
    }
}

/// The units that a charge comes to: if they are the least, one more below 0.
fn encode_units(units: AdjustedUnits) -> [u8; 8] {
    match units {
        AdjustedUnits::Exactly(units) => encode_double(units),
        AdjustedUnits::AtLeast(units) => {
            let mut least = encode_double(units + 1);
            least[7] |= SIGN_BIT;
            least
        }
    }
}

/// The position as an index of two bytes: a call has at most 255 checks of 250 charges.
fn to_index(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Appends a limit as `lua/limits.lua` unpacks it.
fn encode_limit(out: &mut Vec<u8>, limit: &Limit, refuses_new: bool, now: Micros) {
    let flags = u8::from(limit.shadow())
        | u8::from(limit.alternative()) << 1
        | u8::from(limit.tracks_days()) << 2
        | u8::from(refuses_new && limit.open_ended()) << 3;
    out.push(flags | limit.row().kind().get() << 4);
    out.extend_from_slice(&limit.row().to_bytes());
    limit.algorithm().pack(out, now);
}
