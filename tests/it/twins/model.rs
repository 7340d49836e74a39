//! A model of Redis: rows judged by the reference, with the expiry of the script.

use std::collections::{BTreeMap, HashMap};

use tollgate::algorithm::{
    Correction, Counting as _, Row, calendar_quota::Count, token_bucket::Bucket,
};
use tollgate::judge::reservation::{
    self, Adjusted, KeptReservation, NumberedRows, ReservationNumbers, ReservationRows, Reserved,
};
use tollgate::judge::usage::{self, UsageDays, UsageRows};
use tollgate::judge::{self, NotJudged, Rows, Verdict};
use tollgate::limit::{
    Adjustment, Charge, ChargeAdjustment, Charges, LATE_SETTLEMENT, NewReservation, Refund,
    ReservationName, RowId, Subject, USAGE_RETENTION_DAYS,
};
use tollgate::store::CounterUsage;
use tollgate::time::Micros;

/// One subject's string.
#[derive(Default)]
struct SubjectRows {
    rows: HashMap<u64, (Row, Charge)>,
    annexes: HashMap<u64, Vec<u8>>,
    numbers: Option<ReservationNumbers>,
    /// In seconds since 1970.
    deadline: f64,
    /// Until when the rows written in this call matter, in seconds.
    needed: f64,
}

/// One subject's string of days.
#[derive(Default)]
struct SubjectDays {
    days: HashMap<u64, UsageDays>,
    /// In seconds since 1970.
    deadline: u64,
    changed: bool,
}

#[derive(Default)]
pub struct Model {
    subjects: HashMap<Subject, SubjectRows>,
    kept: HashMap<Subject, SubjectDays>,
    /// With the time at which Redis forgets them, in ms.
    reservations: HashMap<ReservationName, (KeptReservation, u64)>,
    now: Micros,
    /// True if no new subject of an open-ended limit is charged.
    pub is_full: bool,
}

impl Model {
    /// Judges the checks of one call by the reference; those that meet days which are over are
    /// judged after all others, once these are kept. The error is a subject that is new.
    pub fn judge_all(&mut self, checks: &[Charges], now: Micros) -> Vec<Result<Verdict, Subject>> {
        self.now = now;
        let judge = |model: &mut Self, charges: &Charges| {
            judge::judge(charges, &judge::offered_windows(charges, now), now, model)
        };
        let first: Vec<_> = checks.iter().map(|charges| judge(self, charges)).collect();
        self.end_of_call(now);
        let again: Vec<&Charges> = checks
            .iter()
            .zip(&first)
            .filter(|(_, verdict)| *verdict == &Err(NotJudged::DayRollover))
            .map(|(charges, _)| charges)
            .collect();
        for charges in again {
            self.close_days(charges, now);
        }
        self.end_of_call(now);
        let verdicts = checks.iter().zip(first).map(|(charges, verdict)| {
            let verdict = match verdict {
                Err(NotJudged::DayRollover) => judge(self, charges),
                verdict => verdict,
            };
            verdict.map_err(|why| match why {
                NotJudged::NewSubject(subject) => subject,
                why => panic!("{why:?}"),
            })
        });
        let verdicts = verdicts.collect();
        self.end_of_call(now);
        verdicts
    }

    /// Judges a check by the reference, which may open a reservation, and writes nothing. The error
    /// is a subject that is new.
    pub fn dry_run(
        &self,
        charges: &Charges,
        new: Option<&NewReservation>,
        now: Micros,
    ) -> Result<Reserved, Subject> {
        let offered = judge::offered_windows(charges, now);
        let judged = match new {
            Some(new) => reservation::dry_run(charges, &offered, new, now, self),
            None => judge::dry_run(charges, &offered, now, self).map(Reserved::Judged),
        };
        judged.map_err(|why| match why {
            NotJudged::NewSubject(subject) => subject,
            why => panic!("{why:?}"),
        })
    }

    /// Opens a reservation by the reference.
    pub fn reserve(&mut self, charges: &Charges, new: &NewReservation, now: Micros) -> Reserved {
        self.now = now;
        let offered = judge::offered_windows(charges, now);
        let reserved = reservation::reserve(charges, &offered, new, now, self);
        let reserved = reserved.unwrap_or_else(|_| {
            self.close_days(charges, now);
            self.end_of_call(now);
            reservation::reserve(charges, &offered, new, now, self).unwrap()
        });
        self.end_of_call(now);
        reserved
    }

    /// Adjusts a reservation by the reference.
    pub fn adjust(&mut self, adjustment: &Adjustment, now: Micros) -> Adjusted {
        self.now = now;
        let windows = |charge: &ChargeAdjustment| {
            charge.limit.as_ref().and_then(|limit| Some(limit.calendar()?.windows(now)))
        };
        let offered: Vec<_> = adjustment.charges.iter().map(windows).collect();
        let adjusted = reservation::adjust(adjustment, &offered, now, self);
        let adjusted = adjusted.unwrap_or_else(|_| {
            self.close_days(&adjustment.looks(), now);
            self.end_of_call(now);
            reservation::adjust(adjustment, &offered, now, self).unwrap()
        });
        self.end_of_call(now);
        adjusted
    }

    fn close_days(&mut self, charges: &[Charge], now: Micros) {
        for charge in charges.iter().filter(|charge| charge.limit.tracks_days()) {
            let windows = charge.limit.calendar().map(|calendar| calendar.windows(now));
            usage::close_day(charge, windows.as_ref(), now, self).unwrap();
        }
    }

    /// Corrects by the reference.
    pub fn correct(
        &mut self,
        charges: &[Charge],
        corrections: &[(usize, Correction)],
        now: Micros,
    ) {
        self.now = now;
        self.close_days(charges, now);
        let offered = judge::offered_windows(charges, now);
        for &(place, correction) in corrections {
            let windows = offered[place].as_ref();
            usage::apply_correction(&charges[place], correction, windows, now, self).unwrap();
        }
        self.end_of_call(now);
    }

    /// The usage of a counter whose days are kept.
    pub fn usage(&self, charge: &Charge) -> CounterUsage {
        let read = |limit: RowId| {
            let row = self.subjects.get(&charge.subject)?.rows.get(&limit.get())?;
            Count::from_row(&row.0)
        };
        let limit = &charge.limit;
        let counts = [read(limit.row()), limit.counterpart_row().and_then(read)];
        let quota = limit.reported_quota().and_then(|quota| read(quota.row()));
        CounterUsage { counts, quota, days: self.days(charge) }
    }

    /// The annexes of a subject by the ids of their rows, and its numbers.
    pub fn annexes(
        &self,
        subject: Subject,
    ) -> (BTreeMap<u64, Vec<u8>>, Option<ReservationNumbers>) {
        let Some(rows) = self.subjects.get(&subject) else { return (BTreeMap::new(), None) };
        let annexes = rows.annexes.iter().filter(|(_, annex)| !annex.is_empty());
        let id = |row: &u64| row + 4 * 256;
        (annexes.map(|(row, annex)| (id(row), annex.clone())).collect(), rows.numbers)
    }

    /// Gives back by the reference.
    pub fn refund(&mut self, refund: &Refund, now: Micros) {
        self.now = now;
        judge::refund(refund, now, self);
        // Less than before: the script leaves the deadline alone.
        if let Some(subject) = self.subjects.get_mut(&refund.charge.subject) {
            subject.needed = 0.0;
        }
    }

    /// Forgets subjects whose deadline has come; nothing that still matters may be among their
    /// rows.
    pub fn expire(&mut self, now: Micros) {
        self.reservations.retain(|_, (_, expiry)| *expiry >= now.get() / 1_000);
        self.kept.retain(|_, kept| kept.deadline * 1_000_000 > now.get());
        self.subjects.retain(|_, subject| {
            let expired = subject.deadline <= seconds(now);
            if expired {
                let rows = subject.rows.values();
                rows.for_each(|(row, charge)| {
                    assert_expired(row, annex(&subject.annexes, charge), charge, now);
                });
            }
            !expired
        });
    }

    /// Sets new deadlines, and drops expired rows of a subject with a new one.
    pub fn end_of_call(&mut self, now: Micros) {
        for subject in self.subjects.values_mut() {
            if subject.needed >= subject.deadline {
                subject.deadline =
                    (((subject.needed / 64.0).floor() + 2.0) * 64.0).min(f64::from(u32::MAX));
                let numbered = subject.numbers.is_some_and(|numbers| numbers.until >= now);
                subject.rows.retain(|_, (row, charge)| {
                    let kept = matters(row, numbered, now);
                    if !kept {
                        assert_expired(row, annex(&subject.annexes, charge), charge, now);
                    }
                    kept
                });
                if !numbered {
                    subject.numbers = None;
                    subject.annexes.clear();
                }
            }
            subject.needed = 0.0;
        }
        for kept in self.kept.values_mut().filter(|kept| kept.changed) {
            kept.deadline = now.get() / 1_000_000 + (USAGE_RETENTION_DAYS + 1) * 86_400;
            kept.changed = false;
        }
    }
}

impl UsageRows for Model {
    fn days(&self, charge: &Charge) -> UsageDays {
        let days = self.kept.get(&charge.subject).map(|kept| &kept.days);
        days.and_then(|days| days.get(&row_id_of_days(charge))).cloned().unwrap_or_default()
    }

    fn write_days(&mut self, charge: &Charge, days: UsageDays) {
        let kept = self.kept.entry(charge.subject).or_default();
        kept.changed = true;
        kept.days.insert(row_id_of_days(charge), days);
    }
}

fn row_id_of_days(charge: &Charge) -> u64 {
    charge.limit.grants_row().get()
}

/// The annex of a charge's counter.
fn annex<'a>(annexes: &'a HashMap<u64, Vec<u8>>, charge: &Charge) -> &'a [u8] {
    annexes.get(&charge.limit.row().get()).map_or(&[], |annex| annex)
}

/// True if the script keeps a row when it drops those that have expired: slots as long as the
/// subject's numbers.
fn matters(row: &Row, numbered: bool, now: Micros) -> bool {
    let bucket = Bucket::from_row(row).map(|bucket| {
        bucket.level > now.since(bucket.updated_at).get().saturating_mul(bucket.drain)
    });
    // A leap year and the time zones: more than any window is long.
    let count = Count::from_row(row)
        .map(|count| (count.window.get() + 368 * 86_400) * 1_000_000 >= now.get());
    bucket.or(count).unwrap_or(numbered)
}

/// Forgetting it must change nothing.
fn assert_expired(row: &Row, annex: &[u8], charge: &Charge, now: Micros) {
    let drained = match charge.limit.calendar() {
        None => {
            let reading = charge.limit.algorithm().read((Some(row), annex), None, now).unwrap();
            reading.state.level == 0
        }
        Some(calendar) => {
            let window = Count::from_row(row).unwrap().window;
            let retention = charge.limit.retention();
            // Its deadline is that of a day which may have been shorter in another time zone: a row
            // that is kept for usage may be forgotten up to a day early.
            let early = Micros::from_secs(if retention == Micros::ZERO { 0 } else { 86_400 });
            calendar.end_of(window) + retention <= now + early
        }
    };
    assert!(drained, "{row:?} of {charge:?} was forgotten at {now:?}");
}

impl Rows for Model {
    fn read(&self, charge: &Charge) -> Option<Row> {
        self.subjects
            .get(&charge.subject)?
            .rows
            .get(&charge.limit.row().get())
            .map(|(row, _)| row.clone())
    }

    fn write(&mut self, charge: &Charge, row: Row, _until: Micros) {
        let subject = self.subjects.entry(charge.subject).or_default();
        let needed = match charge.limit.calendar() {
            None => match Bucket::from_row(&row) {
                Some(bucket) => {
                    let drain = micros(Micros::new(bucket.drain));
                    micros(bucket.updated_at) + micros(Micros::new(bucket.level)) / drain
                }
                None => micros(row.expiry().unwrap()),
            },
            Some(calendar) => {
                // The script knows the current window's end only. A later one has set its own.
                let (_, end) = calendar.windows(self.now).window_at(self.now).unwrap();
                micros(end + charge.limit.retention())
            }
        };
        subject.needed = subject.needed.max(needed / 1e6);
        subject.rows.insert(charge.limit.row().get(), (row, charge.clone()));
    }

    fn annex(&self, charge: &Charge) -> Vec<u8> {
        let subject = self.subjects.get(&charge.subject);
        let annex = subject.and_then(|subject| subject.annexes.get(&charge.limit.row().get()));
        annex.cloned().unwrap_or_default()
    }

    fn write_annex(&mut self, charge: &Charge, annex: Vec<u8>, _until: Option<Micros>) {
        let subject = self.subjects.entry(charge.subject).or_default();
        subject.annexes.insert(charge.limit.row().get(), annex);
    }

    fn refuses(&self, subject: Subject, _charges: &[Charge]) -> bool {
        self.is_full && !self.subjects.contains_key(&subject)
    }
}

impl NumberedRows for Model {
    fn numbers(&self, subject: Subject) -> Option<ReservationNumbers> {
        self.subjects.get(&subject)?.numbers
    }
}

impl ReservationRows for Model {
    type Name = ReservationName;

    fn write_numbers(&mut self, subject: Subject, numbers: ReservationNumbers) {
        let subject = self.subjects.entry(subject).or_default();
        subject.needed = subject.needed.max(seconds(numbers.until));
        subject.numbers = Some(numbers);
    }

    fn reservation(&self, name: ReservationName) -> Option<KeptReservation> {
        self.reservations.get(&name).map(|(kept, _)| kept.clone())
    }

    fn write_reservation(&mut self, name: ReservationName, kept: Option<KeptReservation>) {
        match kept {
            Some(kept) => {
                let lifetime = (kept.ends + LATE_SETTLEMENT).since(self.now).as_millis_ceil() + 1;
                self.reservations.insert(name, (kept, self.now.get() / 1_000 + lifetime))
            }
            None => self.reservations.remove(&name),
        };
    }
}

fn seconds(time: Micros) -> f64 {
    micros(time) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "whole numbers below 2^53")]
fn micros(time: Micros) -> f64 {
    time.get() as f64
}
