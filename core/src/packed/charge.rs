//! Limits and charges as a call carries them: without names, units and calendars, with the windows
//! that the node offers.
//!
//! The arithmetic is the algorithms'.

use crate::algorithm::{
    AdjustedCounter, ChargeChange, ChargeTime, Concurrency, CounterState, Counting as _, NewCharge,
    Reading, ReservedCharge, Reserving as _, Row, StoredCounter, Throttle, WindowMiss, Windows,
    Written, calendar_quota,
};
use crate::judge::JudgedCharge;
use crate::limit::{RowId, USAGE_RETENTION_DAYS};
use crate::time::Micros;
use calendar_quota::Count;

/// The algorithm of a limit with its sizes.
pub(super) enum Sizes {
    /// A token bucket.
    Bucket(Throttle),
    /// Units per calendar window.
    Quota(u64),
    /// Slots that reservations hold.
    Slots(Concurrency),
}

/// A limit of a call.
pub(super) struct PackedLimit {
    /// The row of its counter.
    pub(super) id: RowId,
    /// The flags of `lua/limits.lua`, and the row's kind above them.
    pub(super) flags: u8,
    /// Its algorithm.
    pub(super) sizes: Sizes,
    /// The windows that the node offers, if it has windows.
    pub(super) windows: Option<Windows>,
}

impl PackedLimit {
    const SHADOW: u8 = 1;
    const ALTERNATIVE: u8 = 2;
    const TRACKS_DAYS: u8 = 4;
    const REFUSES_NEW: u8 = 8;

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A charge of a call.
#[derive(Clone, Copy)]
pub(super) struct PackedCharge<'l> {
    /// The place of the subject among the keys, from 0.
    pub(super) key: usize,
    /// The limit.
    pub(super) limit: &'l PackedLimit,
    /// The amount in the algorithm's parts.
    pub(super) amount: u64,
    /// True if it is made in any case.
    pub(super) is_forced: bool,
}

impl JudgedCharge for PackedCharge<'_> {
    type Subject = usize;

    fn look(&self) -> Self {
        Self { amount: 0, is_forced: false, ..*self }
    }

    fn subject(&self) -> usize {
        self.key
    }

    fn amount(&self) -> u64 {
        self.amount
    }

    fn units(&self) -> u64 {
        match &self.limit.sizes {
            Sizes::Bucket(throttle) => self.amount / throttle.per(),
            Sizes::Quota(_) | Sizes::Slots(_) => self.amount,
        }
    }

    fn is_forced(&self) -> bool {
        self.is_forced
    }

    fn size(&self) -> u64 {
        match &self.limit.sizes {
            Sizes::Bucket(throttle) => throttle.size(),
            Sizes::Quota(size) => *size,
            Sizes::Slots(concurrency) => concurrency.size(),
        }
    }

    fn is_shadow(&self) -> bool {
        self.limit.has(PackedLimit::SHADOW)
    }

    fn is_alternative(&self) -> bool {
        self.limit.has(PackedLimit::ALTERNATIVE)
    }

    fn tracks_days(&self) -> bool {
        self.limit.has(PackedLimit::TRACKS_DAYS)
    }

    fn is_open_ended(&self) -> bool {
        self.limit.has(PackedLimit::REFUSES_NEW)
    }

    fn retention(&self) -> Micros {
        Micros::from_secs(u64::from(self.tracks_days()) * USAGE_RETENTION_DAYS * 86_400)
    }

    fn reads_annex(&self) -> bool {
        matches!(self.limit.sizes, Sizes::Slots(_))
    }

    fn read(
        &self,
        counter: StoredCounter<'_>,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<Reading, WindowMiss> {
        match &self.limit.sizes {
            Sizes::Bucket(throttle) => throttle.read(counter, offered, now),
            Sizes::Quota(_) => calendar_quota::read(counter.0, offered, now),
            Sizes::Slots(concurrency) => concurrency.read(counter, offered, now),
        }
    }

    fn write(
        &self,
        before: Option<&Row>,
        state: CounterState,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Written {
        match &self.limit.sizes {
            Sizes::Bucket(throttle) => throttle.write(before, state, offered, now),
            Sizes::Quota(_) => {
                // A later window than the current one has set the deadline of its own end.
                let end = calendar_quota::offered_at(offered, now).map_or(now, |(_, end)| end);
                (Count { used: state.level, window: state.window }.to_row(), end)
            }
            Sizes::Slots(concurrency) => concurrency.write(before, state, offered, now),
        }
    }

    /// A refund leaves the deadline alone: the counter matters no longer than before.
    fn refund(&self, row: &Row, charged: ChargeTime, now: Micros) -> Option<Written> {
        let row = match &self.limit.sizes {
            Sizes::Bucket(throttle) => throttle.refund(row, self.amount, charged, now)?.0,
            Sizes::Quota(_) => Count::refunded(row, self.amount, charged.window)?.to_row(),
            Sizes::Slots(concurrency) => concurrency.refund(row, self.amount, charged, now)?.0,
        };
        Some((row, Micros::ZERO))
    }

    fn follow(&self, annex: Vec<u8>, before: Option<&Row>, level: i64, written: &Row) -> Vec<u8> {
        match &self.limit.sizes {
            Sizes::Bucket(throttle) => throttle.follow(annex, before, level, written),
            Sizes::Quota(_) => annex,
            Sizes::Slots(concurrency) => concurrency.follow(annex, before, level, written),
        }
    }

    fn reserve(
        &self,
        counter: StoredCounter<'_>,
        state: CounterState,
        charge: NewCharge,
        offered: Option<&Windows>,
        now: Micros,
    ) -> (Written, Vec<u8>) {
        match &self.limit.sizes {
            Sizes::Bucket(throttle) => throttle.reserve(counter, state, charge, offered, now),
            Sizes::Quota(_) => {
                let state = calendar_quota::reserve(state, charge.amount).state();
                let annex = calendar_quota::reserved_annex(counter.1, charge.number);
                (self.write(counter.0, state, offered, now), annex)
            }
            Sizes::Slots(concurrency) => concurrency.reserve(counter, state, charge, offered, now),
        }
    }

    fn adjust(
        &self,
        counter: StoredCounter<'_>,
        charged: &ReservedCharge,
        change: ChargeChange,
        offered: Option<&Windows>,
        now: Micros,
    ) -> Result<AdjustedCounter, WindowMiss> {
        match &self.limit.sizes {
            Sizes::Bucket(throttle) => throttle.adjust(counter, charged, change, offered, now),
            Sizes::Quota(_) => {
                let (count, has_changed) =
                    calendar_quota::adjust(counter, charged, change.units, offered, now)?;
                let state = count.state();
                let written = has_changed.then(|| self.write(counter.0, state, offered, now));
                Ok(AdjustedCounter { written, annex: None, state })
            }
            Sizes::Slots(concurrency) => concurrency.adjust(counter, charged, change, offered, now),
        }
    }
}
