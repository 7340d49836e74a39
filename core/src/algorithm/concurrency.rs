//! Concurrency: slots that reservations hold, each until it is given back or its time is over. Twin
//! of `lua/concurrency.lua`; change them together.
//!
//! Slots end in the counter's *own time*, which advances with the clock and never runs back: with
//! ends by the clock, a step back would hold the slots of dead clients for as long as it was. A
//! step forward may end every slot once. The row holds the own time, the annex the list of slots,
//! and the level is the number of those that have not run out: where the two differ, the list
//! counts.
//!
//! Only reservations take slots, one each whatever its cost. A charge that reserves nothing is
//! judged and holds nothing.

use serde::{Deserialize, Serialize};

use super::slots::{LiveSlots, MAX_TTL, OwnTime, count_slots, is_ahead};
use super::{
    AdjustedCounter, ChargeChange, ChargeTime, Corrected, Correction, CounterState, Counting,
    Forecast, NewCharge, Reading, ReservedCharge, Reserving, Row, RowKind, StoredCounter,
    WindowMiss, WindowStart, Windows, Written, encode_double,
};
use crate::time::{MAX_EXACT, Micros};

/// The most slots: with all of them in use, a reservation takes Redis 60 µs, 20 of which it takes
/// without any (`docs/scaling.md`).
const MAX_SLOTS: u64 = 400;
/// The shortest time of a slot.
const MIN_TTL: Micros = Micros::from_secs(1);

/// The wait that a refusal states: a slot may be given back at any moment.
const WAIT: Micros = Micros::from_secs(1);

/// A number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RecordedConcurrency", into = "RecordedConcurrency")]
pub struct Concurrency {
    limit: u64,
    ttl: Micros,
}

/// The reason why there is no such concurrency limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConcurrency {
    /// The number of slots is out of range.
    #[error("the limit is a whole number of slots from 1 to {MAX_SLOTS}")]
    Limit,
    /// The time of a slot is out of range.
    #[error("the ttl is from 1s to 1h")]
    Ttl,
}

impl Concurrency {
    /// So many slots, 1 to 400, of which a reservation holds one for at most `ttl`, 1 s to 1 h.
    ///
    /// # Errors
    /// If one of them is out of range.
    pub fn new(limit: u64, ttl: Micros) -> Result<Self, InvalidConcurrency> {
        if !(1..=MAX_SLOTS).contains(&limit) {
            return Err(InvalidConcurrency::Limit);
        }
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(InvalidConcurrency::Ttl);
        }
        Ok(Self { limit, ttl })
    }

    /// So many slots as a call's arguments describe them: without the time of a slot, which is that
    /// of its reservation. `None` if a node would not send it.
    pub(crate) fn of_slots(limit: u64) -> Option<Self> {
        Self::new(limit, MAX_TTL).ok()
    }

    /// The number of slots.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// The longest time for which a reservation holds a slot without being extended.
    #[must_use]
    pub const fn ttl(&self) -> Micros {
        self.ttl
    }
}

impl Counting for Concurrency {
    fn row_kind(&self) -> RowKind {
        RowKind::CONCURRENCY
    }

    fn capacity(&self) -> u64 {
        self.limit
    }

    fn size(&self) -> u64 {
        self.limit
    }

    fn amount(&self, cost: u64) -> u64 {
        cost.min(MAX_EXACT)
    }

    fn window(&self) -> Micros {
        self.ttl
    }

    fn identity(&self) -> Vec<Vec<u8>> {
        vec![b"concurrency".to_vec()]
    }

    fn per_node_share(&self, nodes: u64) -> Self {
        Self { limit: (self.limit / nodes.max(1)).max(1), ..*self }
    }

    fn slot_ttl(&self) -> Option<Micros> {
        Some(self.ttl)
    }

    fn read(
        &self,
        counter: StoredCounter<'_>,
        _: Option<&Windows>,
        now: Micros,
    ) -> Result<Reading, WindowMiss> {
        let (live, expired) = count_slots(counter, now);
        Ok(Reading {
            state: state(live, expired),
            is_ahead: counter.0.is_some_and(|row| is_ahead(row, now)),
            is_rollover: false,
        })
    }

    /// Notes the time. Only reservations take slots.
    fn write(
        &self,
        before: Option<&Row>,
        _: CounterState,
        _: Option<&Windows>,
        now: Micros,
    ) -> Written {
        OwnTime::at(before, now).to_written()
    }

    fn refund(&self, _: &Row, _: u64, _: ChargeTime, _: Micros) -> Option<Written> {
        None
    }

    /// Only a reset applies: then no reservation holds a slot any more.
    fn correct(
        &self,
        row: Option<&Row>,
        correction: Correction,
        _: impl Fn(u64) -> i64,
        _: Option<&Windows>,
        now: Micros,
    ) -> Result<Option<Corrected>, WindowMiss> {
        let applies = correction == Correction::Reset && row.is_some();
        let written = OwnTime::at(row, now).to_written();
        Ok(applies.then_some(Corrected { written, granted: None }))
    }

    fn forecast(&self, _: CounterState, level: i64, _: u64, _: Micros) -> Forecast {
        let [reset, next_unit] = if level > 0 { [self.ttl, WAIT] } else { [Micros::ZERO; 2] };
        Forecast { remaining: self.remaining(level.unsigned_abs()), reset, wait: WAIT, next_unit }
    }

    fn script_charge_time(&self, charged: ChargeTime) -> u64 {
        charged.at.get()
    }

    fn pack(&self, out: &mut Vec<u8>, _: Micros) {
        out.extend_from_slice(&encode_double(self.limit));
    }
}

/// The annex is the list of slots.
impl Reserving for Concurrency {
    fn follow(&self, annex: Vec<u8>, _: Option<&Row>, _: i64, _: &Row) -> Vec<u8> {
        annex
    }

    fn reserve(
        &self,
        counter: StoredCounter<'_>,
        _: CounterState,
        charge: NewCharge,
        _: Option<&Windows>,
        now: Micros,
    ) -> (Written, Vec<u8>) {
        let mut live = LiveSlots::new(counter, now);
        live.take(charge.number, charge.ttl);
        live.pack()
    }

    /// A reservation that is extended holds its slot from now on, also one whose slot had run out:
    /// it does run. The level shows a debt only to those beyond the limit's first slots, so that no
    /// more of them stop than are too many.
    fn adjust(
        &self,
        counter: StoredCounter<'_>,
        charged: &ReservedCharge,
        change: ChargeChange,
        _: Option<&Windows>,
        now: Micros,
    ) -> Result<AdjustedCounter, WindowMiss> {
        let mut live = LiveSlots::new(counter, now);
        let held = charged.number.zip(change.open_for.filter(|_| change.units > 0));
        let mut is_among_first = false;
        if let Some((number, ttl)) = held {
            is_among_first = live.hold(number, ttl) < self.limit;
        } else if let Some(number) = charged.number {
            live.free(number);
        }
        let most = if is_among_first { self.limit } else { u64::MAX };
        let state = state(live.len().min(most), live.expired);
        if counter.0.is_none() && held.is_none() {
            return Ok(AdjustedCounter { written: None, annex: None, state });
        }
        let (written, annex) = live.pack();
        Ok(AdjustedCounter { written: Some(written), annex: Some(annex), state })
    }

    fn correct_annex(&self, correction: Correction, _: u64) -> Option<Vec<u8>> {
        (correction == Correction::Reset).then(Vec::new)
    }
}

fn state(level: u64, expired_slots: u64) -> CounterState {
    CounterState { level: level.cast_signed(), window: WindowStart::new(0), expired_slots }
}

/// A concurrency limit as `--record` writes it.
#[derive(Serialize, Deserialize)]
struct RecordedConcurrency {
    limit: u64,
    ttl_us: u64,
}

impl From<Concurrency> for RecordedConcurrency {
    fn from(Concurrency { limit, ttl }: Concurrency) -> Self {
        Self { limit, ttl_us: ttl.get() }
    }
}

impl TryFrom<RecordedConcurrency> for Concurrency {
    type Error = InvalidConcurrency;

    fn try_from(recorded: RecordedConcurrency) -> Result<Self, Self::Error> {
        Self::new(recorded.limit, Micros::new(recorded.ttl_us))
    }
}
