//! What Redis should hold: rows judged by the reference, and forgotten when the script says so.

use std::collections::HashMap;

use tollgate::algorithm::{self, Row, Rows, Verdict};
use tollgate::limit::{Charge, Charges, Refund, Rule, Subject};
use tollgate::time::Micros;

/// One subject's string.
#[derive(Default)]
struct Subjects {
    rows: HashMap<u64, (Row, Charge)>,
    /// In seconds since 1970.
    deadline: f64,
    /// Until when the rows written in this call matter, in seconds.
    needed: f64,
}

#[derive(Default)]
pub struct Model {
    subjects: HashMap<Subject, Subjects>,
    now: Micros,
}

impl Model {
    /// Judges one check by the reference.
    pub fn judge(&mut self, charges: &Charges, now: Micros) -> Verdict {
        self.now = now;
        let offer = algorithm::windows(charges, now);
        algorithm::judge(charges, &offer, now, self).unwrap()
    }

    /// Gives back by the reference.
    pub fn refund(&mut self, refund: &Refund, now: Micros) {
        self.now = now;
        algorithm::refund(refund, now, self);
        // Less than before: the script leaves the deadline alone.
        if let Some(subject) = self.subjects.get_mut(&refund.charge.subject) {
            subject.needed = 0.0;
        }
    }

    /// Forgets subjects whose deadline has come; nothing that still matters may be among their rows.
    pub fn expire(&mut self, now: Micros) {
        self.subjects.retain(|_, subject| {
            let expired = subject.deadline <= seconds(now);
            if expired {
                subject.rows.values().for_each(|(row, charge)| assert_spent(*row, charge, now));
            }
            !expired
        });
    }

    /// Sets new deadlines, and tidies up where there is a new one.
    pub fn end_of_call(&mut self, now: Micros) {
        for subject in self.subjects.values_mut() {
            if subject.needed >= subject.deadline {
                subject.deadline =
                    (((subject.needed / 64.0).floor() + 2.0) * 64.0).min(f64::from(u32::MAX));
                subject.rows.retain(|_, (row, charge)| {
                    let kept = matters(*row, now);
                    if !kept {
                        assert_spent(*row, charge, now);
                    }
                    kept
                });
            }
            subject.needed = 0.0;
        }
    }
}

/// Whether the script keeps a row when it tidies up.
fn matters(row: Row, now: Micros) -> bool {
    match row {
        Row::Bucket(bucket) => {
            bucket.level > now.since(bucket.at).get().saturating_mul(bucket.drain)
        }
        // A leap year and the time zones: more than any window is long.
        Row::Count(count) => (count.window.get() + 368 * 86_400) * 1_000_000 >= now.get(),
    }
}

/// Forgetting it must change nothing.
fn assert_spent(row: Row, charge: &Charge, now: Micros) {
    let drained = match (row, charge.limit.rule()) {
        (Row::Bucket(bucket), Rule::Throttle(throttle)) => {
            algorithm::token_bucket::level(Some(bucket), throttle, now) == 0
        }
        (Row::Count(count), Rule::Quota(quota)) => quota.calendar.end_of(count.window) <= now,
        _ => false,
    };
    assert!(drained, "{row:?} of {charge:?} was forgotten at {now:?}");
}

impl Rows for Model {
    fn read(&self, charge: &Charge) -> Option<Row> {
        self.subjects.get(&charge.subject)?.rows.get(&charge.limit.row().get()).map(|&(row, _)| row)
    }

    fn write(&mut self, charge: &Charge, row: Row, _until: Micros) {
        let subject = self.subjects.entry(charge.subject).or_default();
        let needed = match (row, charge.limit.rule()) {
            (Row::Bucket(bucket), Rule::Throttle(throttle)) => {
                let time =
                    micros(Micros::new(bucket.level)) / micros(Micros::new(throttle.drain()));
                micros(bucket.at) + time
            }
            (Row::Count(_), Rule::Quota(quota)) => {
                // The script knows the current window's end only. A later one has set its own.
                let (_, end) = quota.calendar.windows(self.now).at(self.now).unwrap();
                micros(end)
            }
            _ => unreachable!(),
        };
        subject.needed = subject.needed.max(needed / 1e6);
        subject.rows.insert(charge.limit.row().get(), (row, charge.clone()));
    }
}

fn seconds(time: Micros) -> f64 {
    micros(time) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "whole numbers below 2^53")]
fn micros(time: Micros) -> f64 {
    time.get() as f64
}
