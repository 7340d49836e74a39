//! What one call of a script carries; `lua/limits.lua` and `lua/check.lua` say what the bytes mean.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::script::ScriptArgs;
use crate::limit::{Algorithm, Charge, Limit, Refund, Subject};
use crate::time::Micros;

/// The arguments of one call that judges checks.
#[derive(Default)]
pub(super) struct CheckCall {
    tables: ArgumentTables,
    /// The checks, packed.
    checks: Vec<u8>,
    /// What is given back, packed.
    refunds: Vec<u8>,
}

/// Subjects and limits, each once, by their places.
#[derive(Default)]
pub(super) struct ArgumentTables {
    /// The subjects.
    pub(super) subjects: Vec<Subject>,
    /// The limits, packed.
    pub(super) limits: Vec<u8>,
    subject_index: HashMap<Subject, u16, BuildHasherDefault<DigestHasher>>,
    /// By address: the checks keep their limits alive while the call is put together.
    limit_index: HashMap<usize, u16, BuildHasherDefault<DigestHasher>>,
}

/// A hash that is taken from the key: subjects are digests, and addresses are our own.
///
/// Whoever searches subjects that collide here slows one call of 128 checks down, no more.
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

    fn packed_args(&self) -> [&[u8]; 3] {
        [&self.tables.limits, &self.checks, &self.refunds]
    }
}

impl CheckCall {
    /// One more check. Quotas are offered the windows around `now`.
    pub(super) fn add_check(&mut self, charges: &[Charge], now: Micros) {
        self.checks.push(u8::try_from(charges.len()).unwrap_or(u8::MAX));
        for charge in charges {
            let [key, limit] = self.tables.intern(charge.subject, &charge.limit, now);
            self.checks.extend_from_slice(&key.to_le_bytes());
            self.checks.extend_from_slice(&limit.to_le_bytes());
            self.checks.extend_from_slice(&encode_double(charge.amount()));
        }
    }

    /// Something to give back, before all checks.
    pub(super) fn add_refund(&mut self, refund: &Refund, now: Micros) {
        let Refund { charge, charged_at, window } = refund;
        let when = match charge.limit.algorithm() {
            Algorithm::TokenBucket(_) => charged_at.get(),
            Algorithm::CalendarQuota(_) => window.get(),
        };
        let [key, limit] = self.tables.intern(charge.subject, &charge.limit, now);
        self.refunds.extend_from_slice(&key.to_le_bytes());
        self.refunds.extend_from_slice(&limit.to_le_bytes());
        self.refunds.extend_from_slice(&encode_double(charge.amount()));
        self.refunds.extend_from_slice(&encode_double(when));
    }
}

impl ArgumentTables {
    /// The places of a subject and of a limit, from 1. Quotas are offered the windows around `now`.
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
            encode_limit(&mut self.limits, limit, now);
            next
        })
    }
}

/// At most 255 charges of 255 checks in a call: the indices fit.
fn to_index(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Exact: all our numbers are below 2^53.
#[expect(clippy::cast_precision_loss, reason = "whole numbers below 2^53")]
pub(super) fn encode_double(number: u64) -> [u8; 8] {
    (number as f64).to_le_bytes()
}

fn encode_limit(out: &mut Vec<u8>, limit: &Limit, now: Micros) {
    let kind = u8::from(matches!(limit.algorithm(), Algorithm::CalendarQuota(_)))
        | u8::from(limit.shadow()) << 1
        | u8::from(limit.alternative()) << 2
        | u8::from(limit.tracks_days()) << 3;
    out.push(kind);
    out.extend_from_slice(&limit.row().get().to_le_bytes()[..5]);
    match limit.algorithm() {
        Algorithm::TokenBucket(throttle) => {
            for number in [throttle.drain(), throttle.per(), throttle.size()] {
                out.extend_from_slice(&encode_double(number));
            }
        }
        Algorithm::CalendarQuota(quota) => {
            let windows = quota.calendar.windows(now);
            out.extend_from_slice(&encode_double(quota.limit));
            for bound in windows.bounds {
                out.extend_from_slice(&encode_double(bound.get()));
            }
            for start in windows.starts {
                out.extend_from_slice(&start.get().to_le_bytes()[..5]);
            }
        }
    }
}
