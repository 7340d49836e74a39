//! Usage by day and corrections: calls of `lua/usage.lua`, and decoding of its rows.
//!
//! Reading changes nothing: the usage of a day that is not kept yet comes from the counter itself.

use futures_util::future::try_join_all;

use super::call::{ArgumentTables, CheckCall};
use super::pool::POOL_SIZE;
use super::reply::{CheckReply, ReplyDecoder};
use super::rows::PackedRows;
use super::script::{CHECK_SCRIPT, ScriptArgs, USAGE_SCRIPT};
use super::{Redis, StoreError};
use crate::algorithm::calendar_quota::Count;
use crate::algorithm::{Correction, RowKind, encode_double};
use crate::judge::Verdict;
use crate::judge::usage::{UsageDay, UsageDays};
use crate::limit::{Charge, Charges, RowId, Subject};
use crate::store::CounterUsage;
use crate::time::Micros;

/// The remaining units of a day without a quota.
const NO_QUOTA: i64 = 1 << 54;

/// The header of a subject's string: the format and the key's deadline.
const ROWS_HEADER: usize = 5;
/// The header of a subject's days: the format.
const DAYS_HEADER: usize = 1;

/// The arguments of one call of the usage script.
#[derive(Default)]
pub(super) struct UsageCall {
    tables: ArgumentTables,
    days: Vec<u8>,
    corrections: Vec<u8>,
}

impl ScriptArgs for UsageCall {
    const WITH_USAGE_KEYS: bool = true;

    fn subjects(&self) -> &[Subject] {
        &self.tables.subjects
    }

    fn packed_args(&self) -> [&[u8]; 3] {
        [&self.tables.limits, &self.days, &self.corrections]
    }
}

impl UsageCall {
    /// A call that keeps the days of `checks` that are over.
    pub(super) fn for_day_rollover(checks: &[&Charges], now: Micros) -> Self {
        let mut call = Self::default();
        for charges in checks {
            call.add_day_rollover(charges, now);
        }
        call
    }

    /// True if the call would do nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.days.is_empty() && self.corrections.is_empty()
    }

    fn add_day_rollover(&mut self, charges: &[Charge], now: Micros) {
        for charge in charges.iter().filter(|charge| charge.limit.tracks_days()) {
            let [subject, limit] = self.tables.intern(charge.subject, &charge.limit, now);
            let quota = charge
                .limit
                .reported_quota()
                .map_or(0, |quota| self.tables.intern_limit(quota, now));
            for index in [subject, limit, quota] {
                self.days.extend_from_slice(&index.to_le_bytes());
            }
            self.days.extend_from_slice(&charge.limit.grants_row().to_bytes());
        }
    }

    fn add_correction(&mut self, charge: &Charge, correction: Correction, now: Micros) {
        let (opcode, amount) = match correction {
            Correction::SetRemaining(left) => (1, left),
            Correction::Grant(more) => (2, more),
            Correction::Refund(unused) => (3, unused),
            Correction::Reset => (4, 0),
        };
        let [subject, limit] = self.tables.intern(charge.subject, &charge.limit, now);
        self.corrections.push(opcode);
        self.corrections.extend_from_slice(&subject.to_le_bytes());
        self.corrections.extend_from_slice(&limit.to_le_bytes());
        self.corrections.extend_from_slice(&encode_double(amount));
        self.corrections.extend_from_slice(&charge.limit.grants_row().to_bytes());
    }
}

impl Redis {
    pub(in crate::store) async fn usage(
        &self,
        charges: &[Charge],
    ) -> Result<(Micros, Vec<Result<CounterUsage, StoreError>>), StoreError> {
        let Some(first) = charges.first() else { return Ok((self.clock.now(), Vec::new())) };
        let key = first.subject.redis_key();
        let (seconds, micros): (u64, u64) = self.run_command(&key, &redis::cmd("TIME")).await?;
        let is_single = !self.topology.is_sharded();
        let groups =
            charges.chunk_by(|one, next| is_single || one.subject.has_same_hash_tag(&next.subject));
        let groups: Vec<&[Charge]> = groups.collect();
        let mut usages = Vec::with_capacity(charges.len());
        // At most as many requests at a time as the pool has connections.
        for batch in groups.chunks(POOL_SIZE) {
            let batch_usages =
                try_join_all(batch.iter().map(|group| self.fetch_usage(group))).await?;
            usages.extend(batch_usages.into_iter().flatten());
        }
        Ok((Micros::new(seconds * 1_000_000 + micros), usages))
    }

    /// Reads rows and days in one command, so that no day is counted twice or missed while it
    /// moves.
    async fn fetch_usage(
        &self,
        group: &[Charge],
    ) -> Result<Vec<Result<CounterUsage, StoreError>>, StoreError> {
        let (mut mget, mut name) = (redis::cmd("MGET"), String::new());
        for charge in group {
            name.clear();
            charge.subject.write_redis_key(&mut name);
            mget.arg(&*name);
            name.clear();
            charge.subject.write_usage_key(&mut name);
            mget.arg(&*name);
        }
        let strings: Vec<Option<Vec<u8>>> = self.run_command(&name, &mget).await?;
        let (pairs, _) = strings.as_chunks::<2>();
        let decoded = group.iter().zip(pairs).map(|(charge, pair)| {
            decode_usage(charge, pair).inspect_err(|error| {
                self.log_bad_row(&charge.subject.redis_key(), &error.to_string());
            })
        });
        Ok(decoded.collect())
    }

    /// Reads counters of one subject by checks of cost 0.
    pub(in crate::store) async fn peek(&self, charges: &Charges) -> Result<Verdict, StoreError> {
        let Some(first) = charges.first() else {
            return Err(StoreError::BadReply("there is nothing to read".into()));
        };
        let key = first.subject.redis_key();
        // The second attempt knows Redis' clock.
        for _ in 0..2 {
            let mut call = CheckCall::default();
            call.add_check(charges, self.clock.now());
            let reply = self.run_command(&key, &CHECK_SCRIPT.eval_command(&call)).await?;
            let mut decoder = ReplyDecoder::new(reply)?;
            self.clock.observe(decoder.now);
            match decoder.next_check(charges)? {
                CheckReply::Done(verdict) => return Ok(verdict),
                CheckReply::BadRow(why) => {
                    self.log_bad_row(&key, &why);
                    return Err(StoreError::BadRow(why));
                }
                CheckReply::WindowMiss => {}
                // A check of cost 0 keeps no day, and creates no subject.
                CheckReply::DayRollover | CheckReply::NewSubject(_) => break,
            }
        }
        Err(StoreError::BadReply("a check of cost 0 was not judged".into()))
    }

    /// Corrects counters of one subject and its parts, or of several on one primary.
    pub(in crate::store) async fn correct(
        &self,
        charges: &[Charge],
        corrections: &[(usize, Correction)],
    ) -> Result<(), StoreError> {
        let Some(first) = charges.first() else { return Ok(()) };
        let key = first.subject.redis_key();
        // The second attempt knows Redis' clock.
        for _ in 0..2 {
            let (mut call, now) = (UsageCall::default(), self.clock.now());
            call.add_day_rollover(charges, now);
            for &(index, correction) in corrections {
                call.add_correction(&charges[index], correction, now);
            }
            let reply = self.run_command(&key, &USAGE_SCRIPT.eval_command(&call)).await;
            let mut decoder = ReplyDecoder::new(reply.map_err(|error| match error {
                StoreError::Script(why) => {
                    self.log_bad_row(&key, &why);
                    StoreError::BadRow(why)
                }
                error => error,
            })?)?;
            self.clock.observe(decoder.now);
            if decoder.next_number()? == 1 {
                return Ok(());
            }
        }
        Err(StoreError::BadReply(
            "Redis' clock left the calendar windows twice during one correction".into(),
        ))
    }
}

/// The usage that a subject's rows and its days report for a counter.
pub(crate) fn decode_usage(
    charge: &Charge,
    strings: &[Option<Vec<u8>>; 2],
) -> Result<CounterUsage, StoreError> {
    let [rows, days] = strings.each_ref().map(Option::as_deref);
    let count = |row: Option<RowId>| row.map_or(Ok(None), |row| find_count(rows, row));
    let limit = &charge.limit;
    let days = limit.usage_row().map_or(Ok(UsageDays::default()), |row| decode_days(days, row))?;
    Ok(CounterUsage {
        counts: [count(Some(limit.row()))?, count(limit.counterpart_row())?],
        quota: count(limit.reported_quota().map(|quota| quota.row()))?,
        days,
    })
}

/// The count under `id` among a subject's rows.
fn find_count(rows: Option<&[u8]>, id: RowId) -> Result<Option<Count>, StoreError> {
    let row = PackedRows::new(rows, ROWS_HEADER)?.find(id)?;
    Ok(row.as_ref().and_then(Count::from_row))
}

/// The days of the count under `id`; `lua/usage.lua` defines their bodies.
fn decode_days(days: Option<&[u8]>, id: RowId) -> Result<UsageDays, StoreError> {
    let (day_id, granted_id) = (id.with_kind(RowKind::USAGE_DAY), id.with_kind(RowKind::GRANTED));
    let mut found = UsageDays::default();
    for row in PackedRows::new(days, DAYS_HEADER)? {
        let (id, Some(row)) = row? else { continue };
        let (day, units) = (row.number::<2>(0), row.signed::<7>(2));
        if id == day_id {
            let left = row.signed::<7>(9);
            let remaining = (left != NO_QUOTA).then_some(left);
            found.past.push(UsageDay { day, used: units, remaining });
        } else if id == granted_id {
            found.granted = Some((day, units));
        }
    }
    Ok(found)
}
