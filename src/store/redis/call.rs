//! What one call of the script carries; `lua/check.lua` says what the bytes mean.

use std::collections::HashMap;
use std::sync::Arc;

use crate::limit::{Charge, Limit, Rule, Subject};
use crate::time::Micros;

/// The arguments of one call.
#[derive(Default)]
pub(super) struct Call {
    /// The subjects, each once.
    pub(super) keys: Vec<Subject>,
    /// The limits, each once, packed.
    pub(super) limits: Vec<u8>,
    /// The checks, packed.
    pub(super) checks: Vec<u8>,
    key_index: HashMap<Subject, u16>,
    /// By address: the checks keep their limits alive while the call is put together.
    limit_index: HashMap<usize, u16>,
}

impl Call {
    /// One more check. Quotas are offered the windows around `now`.
    pub(super) fn add(&mut self, charges: &[Charge], now: Micros) {
        self.checks.push(u8::try_from(charges.len()).unwrap_or(u8::MAX));
        for charge in charges {
            let key = self.key(charge.subject);
            let limit = self.limit(&charge.limit, now);
            self.checks.extend_from_slice(&key.to_le_bytes());
            self.checks.extend_from_slice(&limit.to_le_bytes());
            self.checks.extend_from_slice(&double(charge.amount()));
        }
    }

    fn key(&mut self, subject: Subject) -> u16 {
        *self.key_index.entry(subject).or_insert_with(|| {
            self.keys.push(subject);
            index(self.keys.len())
        })
    }

    fn limit(&mut self, limit: &Arc<Limit>, now: Micros) -> u16 {
        let next = index(self.limit_index.len() + 1);
        *self.limit_index.entry(Arc::as_ptr(limit).addr()).or_insert_with(|| {
            pack(&mut self.limits, limit, now);
            next
        })
    }
}

/// At most 255 charges of 255 checks in a call: the indices fit.
fn index(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Exact: all our numbers are below 2^53.
#[expect(clippy::cast_precision_loss, reason = "whole numbers below 2^53")]
fn double(number: u64) -> [u8; 8] {
    (number as f64).to_le_bytes()
}

fn pack(out: &mut Vec<u8>, limit: &Limit, now: Micros) {
    let shadow = if limit.shadow() { 2 } else { 0 };
    let id = &limit.row().get().to_le_bytes()[..5];
    match limit.rule() {
        Rule::Throttle(throttle) => {
            out.push(shadow);
            out.extend_from_slice(id);
            for number in [throttle.drain(), throttle.per(), throttle.size()] {
                out.extend_from_slice(&double(number));
            }
        }
        Rule::Quota(quota) => {
            let windows = quota.calendar.windows(now);
            out.push(1 + shadow);
            out.extend_from_slice(id);
            out.extend_from_slice(&double(quota.limit));
            for bound in windows.bounds {
                out.extend_from_slice(&double(bound.get()));
            }
            for day in windows.days {
                out.extend_from_slice(&day.get().to_le_bytes()[..3]);
            }
        }
    }
}
