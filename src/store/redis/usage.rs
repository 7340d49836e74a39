//! Days that are over, and corrections: calls of `lua/usage.lua`, and its rows read.
//!
//! Reading changes nothing: a day that nobody has taken out yet is told from the count itself.

use futures_util::future::try_join_all;

use super::call::{Shared, double};
use super::reply::Reply;
use super::script::{Arguments, USAGE};
use super::server::POOLED;
use super::{Error, Redis, Servers};
use crate::algorithm::calendar_quota::Count;
use crate::algorithm::days::{Correction, Day, Days};
use crate::limit::{Charge, Charges, RowId, Start, Subject};
use crate::store::Usage;
use crate::time::Micros;

/// What is left where there is no quota.
const NO_QUOTA: i64 = 1 << 54;

/// The arguments of one call of the usage script.
#[derive(Default)]
pub(super) struct UsageCall {
    shared: Shared,
    days: Vec<u8>,
    corrections: Vec<u8>,
}

impl Arguments for UsageCall {
    const DAYS: bool = true;

    fn subjects(&self) -> &[Subject] {
        &self.shared.subjects
    }

    fn packed(&self) -> [&[u8]; 3] {
        [&self.shared.limits, &self.days, &self.corrections]
    }
}

impl UsageCall {
    /// Keeps what is over of all days that `checks` count.
    pub(super) fn days_of(checks: &[&Charges], now: Micros) -> Self {
        let mut call = Self::default();
        for charges in checks {
            call.keep_days(charges, now);
        }
        call
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.days.is_empty() && self.corrections.is_empty()
    }

    fn keep_days(&mut self, charges: &[Charge], now: Micros) {
        for charge in charges.iter().filter(|charge| charge.limit.keeps_days()) {
            let [subject, limit] = self.shared.places(charge.subject, &charge.limit, now);
            let quota = charge.limit.told_quota().map_or(0, |quota| self.shared.limit(quota, now));
            for place in [subject, limit, quota] {
                self.days.extend_from_slice(&place.to_le_bytes());
            }
            self.days.extend_from_slice(&charge.limit.grants_row().get().to_le_bytes()[..5]);
        }
    }

    fn correct(&mut self, charge: &Charge, correction: Correction, now: Micros) {
        let (what, amount) = match correction {
            Correction::Left(left) => (1, left),
            Correction::More(more) => (2, more),
            Correction::Unused(unused) => (3, unused),
            Correction::Afresh => (4, 0),
        };
        let [subject, limit] = self.shared.places(charge.subject, &charge.limit, now);
        self.corrections.push(what);
        self.corrections.extend_from_slice(&subject.to_le_bytes());
        self.corrections.extend_from_slice(&limit.to_le_bytes());
        self.corrections.extend_from_slice(&double(amount));
        self.corrections.extend_from_slice(&charge.limit.grants_row().get().to_le_bytes()[..5]);
    }
}

impl Redis {
    pub(in crate::store) async fn usage(
        &self,
        of: &[Charge],
    ) -> Result<(Micros, Vec<Usage>), Error> {
        let Some(first) = of.first() else { return Ok((self.clock.now(), Vec::new())) };
        let key = first.subject.redis_key();
        let (seconds, micros): (u64, u64) = self.ask(&key, &redis::cmd("TIME")).await?;
        let in_one_place = matches!(self.servers, Servers::One(_));
        let lots = of.chunk_by(|one, next| in_one_place || one.subject.lies_with(&next.subject));
        let lots: Vec<&[Charge]> = lots.collect();
        let mut usages = Vec::with_capacity(of.len());
        // No more at a time than a pool has connections.
        for some in lots.chunks(POOLED) {
            let told = try_join_all(some.iter().map(|lot| self.usage_together(lot))).await?;
            usages.extend(told.into_iter().flatten());
        }
        Ok((Micros::new(seconds * 1_000_000 + micros), usages))
    }

    /// One look at rows and days, so that no day is seen twice or missed while it is taken out.
    async fn usage_together(&self, lot: &[Charge]) -> Result<Vec<Usage>, Error> {
        let (mut look, mut name) = (redis::cmd("MGET"), String::new());
        for charge in lot {
            name.clear();
            charge.subject.write_redis_key(&mut name);
            look.arg(&*name);
            name.clear();
            charge.subject.write_usage_key(&mut name);
            look.arg(&*name);
        }
        let strings: Vec<Option<Vec<u8>>> = self.ask(&name, &look).await?;
        let (pairs, _) = strings.as_chunks::<2>();
        lot.iter().zip(pairs).map(|(charge, pair)| usage_in(charge, pair)).collect()
    }

    /// Corrects counters of one subject and its parts, or of several on one primary.
    pub(in crate::store) async fn correct(
        &self,
        charges: &[Charge],
        corrections: &[(usize, Correction)],
    ) -> Result<(), Error> {
        let Some(first) = charges.first() else { return Ok(()) };
        let key = first.subject.redis_key();
        // The second time Redis' clock has been read.
        for _ in 0..2 {
            let (mut call, now) = (UsageCall::default(), self.clock.now());
            call.keep_days(charges, now);
            for &(place, correction) in corrections {
                call.correct(&charges[place], correction, now);
            }
            let mut reply = Reply::new(self.ask(&key, &USAGE.whole(&call)).await?)?;
            self.clock.observe(reply.now);
            if reply.number()? == 1 {
                return Ok(());
            }
        }
        Err(Error::BadReply("Redis' clock moved away twice within one correction".into()))
    }
}

/// What a subject's rows and its days say of a count.
fn usage_in(charge: &Charge, strings: &[Option<Vec<u8>>; 2]) -> Result<Usage, Error> {
    let [rows, days] = strings.each_ref().map(|text| text.as_deref().unwrap_or_default());
    let count = |row: Option<RowId>| row.map_or(Ok(None), |row| count_in(rows, row.get()));
    let limit = &charge.limit;
    let days = limit.days_row().map_or(Ok(Days::default()), |row| days_in(days, row.get()))?;
    Ok(Usage {
        counts: [count(Some(limit.row()))?, count(limit.other_count())?],
        quota: count(limit.told_quota().map(|quota| quota.row()))?,
        days,
    })
}

/// The count under `id` among a subject's rows; `lua/subject.lua` says how they are packed.
fn count_in(rows: &[u8], id: u64) -> Result<Option<Count>, Error> {
    const SIZES: [usize; 2] = [33, 17];
    let Some((&format, _)) = rows.split_first() else { return Ok(None) };
    let mut rest = rows.get(5..).unwrap_or_default();
    if format != 1 {
        return Err(Error::BadRow(format!("a subject has format {format}")));
    }
    while !rest.is_empty() {
        let row = number(rest, 0, 5);
        let size = SIZES[usize::from(row % 2 == 1)];
        if row == id {
            let (used, window) = (signed(rest, 5), Start::new(number(rest, 12, 5)));
            return Ok(Some(Count { used, window }));
        }
        rest = rest.get(size..).unwrap_or_default();
    }
    Ok(None)
}

/// The days of the count under `id`; `lua/usage.lua` says how they are packed.
fn days_in(days: &[u8], id: u64) -> Result<Days, Error> {
    let mut found = Days::default();
    let Some((&format, rows)) = days.split_first() else { return Ok(found) };
    if format != 1 {
        return Err(Error::BadRow(format!("a subject's days have format {format}")));
    }
    for row in rows.chunks_exact(21) {
        let (of, day) = (number(row, 0, 5), number(row, 5, 2));
        let (used, left) = (signed(row, 7), signed(row, 14));
        if of == id {
            found.over.push(Day { day, used, left: (left != NO_QUOTA).then_some(left) });
        } else if of == id - 1 {
            found.granted = Some((day, used));
        }
    }
    Ok(found)
}

/// The number in so many bytes of `row`; 0 beyond its end.
fn number(row: &[u8], at: usize, bytes: usize) -> u64 {
    let bytes = row.get(at..at + bytes).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The number with a sign in seven bytes of `row`.
fn signed(row: &[u8], at: usize) -> i64 {
    (number(row, at, 7) << 8).cast_signed() >> 8
}
