//! Judging a check: all of its charges as one, by the limits' algorithms. The reference.
//!
//! The embedded store and the replay of recorded histories run this code; Redis runs the twin in
//! `lua/check.lua`. Property tests hold the two equal, bit for bit. Nothing here does I/O or reads
//! a clock; only [`usage`] knows an algorithm, the calendar quota.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use tollgate_core::algorithm::Throttle;
//! use tollgate_core::judge::{RowTable, is_made, judge, limit_status};
//! use tollgate_core::limit::{Charge, Limit, Subject, Unit};
//! use tollgate_core::time::Micros;
//!
//! let charge = |name: &str, burst| {
//!     let throttle = Throttle::new("1/s".parse().unwrap(), burst).unwrap();
//!     let limit = Limit::new(name, Unit::requests(), throttle, false);
//!     Charge::new(Subject::api_key("alice"), Arc::new(limit), 2)
//! };
//! let (charges, now) = ([charge("large", 10), charge("small", 3)], Micros::from_secs(1));
//! let mut rows = RowTable::default();
//! let mut check = || judge(&charges, &[None, None], now, &mut rows).unwrap();
//!
//! assert!(check().allowed);
//! // The small bucket has room for one more unit, so the second check is charged nowhere.
//! let verdict = check();
//! assert!(!verdict.allowed);
//! let status = [0, 1].map(|index| {
//!     let made = is_made(&charges[index], verdict.states[index], verdict.allowed);
//!     limit_status(&charges[index], verdict.states[index], made, now)
//! });
//! assert_eq!((status[0].remaining, status[1].remaining), (8, 1));
//! assert_eq!(status[1].retry_after, Micros::from_secs(1));
//! ```

mod charge;
mod refund;
pub mod reservation;
mod status;
mod table;
pub mod usage;

use smallvec::SmallVec;

use crate::algorithm::{CounterState, Counting as _, Reading, Row, WindowMiss, Windows, Written};
use crate::limit::{Charge, Subject};
use crate::time::{MAX_EXACT, Micros};
pub use charge::JudgedCharge;
pub use refund::refund;
pub(crate) use refund::refund_charge;
pub use reservation::{NumberedRows, ReservationNumbers};
pub use status::{LimitStatus, limit_status};
pub use table::RowTable;

/// A store's verdict on a check; everything in the response follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The store's clock when it judged.
    pub now: Micros,
    /// True if all limits that refuse had room; then every charge that fitted was made.
    pub allowed: bool,
    /// The state of each charge's counter before, in the charges' order.
    pub states: SmallVec<[CounterState; 4]>,
}

/// The reason why a check was not judged; nothing was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotJudged<S = Subject> {
    /// The store's clock lies outside the windows that were offered.
    WindowMiss,
    /// A charge would replace a day of usage, which has to be kept first; see [`usage`].
    DayRollover,
    /// The store has no counter of this subject, and is too full for new ones.
    NewSubject(S),
}

impl<S> From<WindowMiss> for NotJudged<S> {
    fn from(_: WindowMiss) -> Self {
        Self::WindowMiss
    }
}

/// The rows of a store, locked by the caller of [`judge`].
pub trait Rows<C: JudgedCharge = Charge> {
    /// The row of a charge's limit and subject.
    fn read(&self, charge: &C) -> Option<Row>;
    /// Replaces the row; from `until` on a missing row means the same.
    fn write(&mut self, charge: &C, row: Row, until: Micros);
    /// The annex of a charge's counter, which only reservations need; empty if it has none.
    fn annex(&self, charge: &C) -> Vec<u8>;
    /// Replaces the annex; an empty one is removed. From `until` on a missing one means the same;
    /// without `until` that time stays.
    fn write_annex(&mut self, charge: &C, annex: Vec<u8>, until: Option<Micros>);
    /// True if the store is too full for new subjects, and has no row of this one. It may look for
    /// rows of the check's `charges` only.
    fn refuses(&self, subject: C::Subject, charges: &[C]) -> bool;
}

/// For each charge the windows offered to the store, if its limit has windows.
pub type OfferedWindows = SmallVec<[Option<Windows>; 4]>;

/// The windows to offer for each charge, around an estimate of the store's clock.
#[must_use]
pub fn offered_windows(charges: &[Charge], now: Micros) -> OfferedWindows {
    let windows =
        |charge: &Charge| charge.limit.algorithm().calendar().map(|calendar| calendar.windows(now));
    charges.iter().map(windows).collect()
}

/// Judges all charges of one check as one: all are made, or none.
///
/// Charges of cost 0 and those that neither fit nor refuse are not made; those in mode
/// [`Always`](crate::limit::ChargeMode::Always) are made in any case. A call must not charge a
/// counter twice. Rows that the clock has stepped back behind are written with their level as it
/// is, whatever the verdict.
///
/// # Errors
/// If `now` lies outside the offered windows, a day of usage has to be kept first, or the store
/// takes no new subjects; then nothing was written.
pub fn judge<C: JudgedCharge>(
    charges: &[C],
    offered: &[Option<Windows>],
    now: Micros,
    rows: &mut impl Rows<C>,
) -> Result<Verdict, NotJudged<C::Subject>> {
    let mut assessed = Assessed::new(now);
    assess_into(&mut assessed, charges, offered, rows)?;
    assessed.ensure_writable()?;
    write_assessed(charges, offered, &assessed, rows);
    Ok(assessed.verdict)
}

/// The verdict that [`judge`] would return now, also where it would first need a day of usage to be
/// kept. Writes nothing.
///
/// # Errors
/// If `now` lies outside the offered windows, or the store takes no new subjects.
pub fn dry_run<C: JudgedCharge>(
    charges: &[C],
    offered: &[Option<Windows>],
    now: Micros,
    rows: &impl Rows<C>,
) -> Result<Verdict, NotJudged<C::Subject>> {
    assess(charges, offered, now, rows).map(|assessed| assessed.verdict)
}

/// A check that was judged and not written yet.
pub(crate) struct Assessed {
    pub(crate) verdict: Verdict,
    /// True if a day of usage has to be kept before the check may be written.
    rolls_over: bool,
    /// The counter of each charge as it was read.
    counters: SmallVec<[ReadCounter; 4]>,
}

/// A counter that was read, and has not been written since.
pub(crate) struct ReadCounter {
    row: Option<Row>,
    /// True if its row must be written in any case: see `Reading::is_ahead`.
    is_ahead: bool,
}

impl Assessed {
    fn new(now: Micros) -> Self {
        let verdict = Verdict { now, allowed: true, states: SmallVec::new() };
        Self { verdict, rolls_over: false, counters: SmallVec::new() }
    }

    /// An error if a day of usage has to be kept first.
    pub(crate) fn ensure_writable<S>(&self) -> Result<(), NotJudged<S>> {
        if self.rolls_over { Err(NotJudged::DayRollover) } else { Ok(()) }
    }
}

/// The verdict on a check; nothing is written.
pub(crate) fn assess<C: JudgedCharge>(
    charges: &[C],
    offered: &[Option<Windows>],
    now: Micros,
    rows: &impl Rows<C>,
) -> Result<Assessed, NotJudged<C::Subject>> {
    let mut assessed = Assessed::new(now);
    assess_into(&mut assessed, charges, offered, rows)?;
    Ok(assessed)
}

/// As [`assess`], into a check without charges: it is large to return.
fn assess_into<C: JudgedCharge>(
    Assessed { verdict, rolls_over, counters }: &mut Assessed,
    charges: &[C],
    offered: &[Option<Windows>],
    rows: &impl Rows<C>,
) -> Result<(), NotJudged<C::Subject>> {
    // True if one of the alternatives has room; `None` if there are no alternatives.
    let mut alternatives = None;
    let (mut rollover, mut forced_rollover) = (false, false);
    for (charge, windows) in charges.iter().zip(offered) {
        let would_write = charge.is_open_ended() && charge.amount() > 0;
        if would_write && rows.refuses(charge.subject(), charges) {
            return Err(NotJudged::NewSubject(charge.subject()));
        }
        let (row, reading) = read(charge, windows.as_ref(), verdict.now, rows)?;
        let fits = fits(charge, reading.state);
        if charge.is_alternative() {
            alternatives = Some(fits || charge.is_shadow() || alternatives == Some(true));
        }
        verdict.allowed &= fits || charge.is_shadow() || charge.is_alternative();
        if reading.is_rollover && charge.tracks_days() && charge.amount() > 0 {
            rollover |= fits;
            forced_rollover |= charge.is_forced();
        }
        verdict.states.push(reading.state);
        counters.push(ReadCounter { row, is_ahead: reading.is_ahead });
    }
    verdict.allowed &= alternatives != Some(false);
    *rolls_over = forced_rollover || verdict.allowed && rollover;
    Ok(())
}

/// The counter of a charge at `now`. Few algorithms read the annex.
fn read<C: JudgedCharge>(
    charge: &C,
    offered: Option<&Windows>,
    now: Micros,
    rows: &impl Rows<C>,
) -> Result<(Option<Row>, Reading), WindowMiss> {
    let row = rows.read(charge);
    let annex = if charge.reads_annex() { rows.annex(charge) } else { Vec::new() };
    let reading = charge.read((row.as_ref(), &annex), offered, now)?;
    Ok((row, reading))
}

/// Makes the charges of a check that was judged.
pub(crate) fn write_assessed<C: JudgedCharge>(
    charges: &[C],
    offered: &[Option<Windows>],
    assessed: &Assessed,
    rows: &mut impl Rows<C>,
) {
    let Assessed { verdict, counters, .. } = assessed;
    let charges = charges.iter().zip(offered);
    for ((charge, windows), (state, counter)) in charges.zip(verdict.states.iter().zip(counters)) {
        let made = is_made(charge, *state, verdict.allowed);
        if made || counter.is_ahead {
            let level = if made { level_after(charge, *state) } else { state.level };
            let after = CounterState { level, ..*state };
            let (before, windows) = (counter.row.as_ref(), windows.as_ref());
            write(charge, before, state.level, after, windows, verdict.now, rows);
        }
    }
}

/// True if a charge fits into its counter in this state.
#[must_use]
pub fn fits<C: JudgedCharge>(charge: &C, state: CounterState) -> bool {
    state.level + charge.amount().cast_signed() <= charge.size().cast_signed()
}

/// True if a charge was made whose counter was in this state before, by the check's verdict.
#[must_use]
pub fn is_made<C: JudgedCharge>(charge: &C, state: CounterState, allowed: bool) -> bool {
    charge.amount() > 0 && (charge.is_forced() || allowed && fits(charge, state))
}

/// The level once the charge is made: saturated, since forced charges may exceed any size.
fn level_after<C: JudgedCharge>(charge: &C, state: CounterState) -> i64 {
    (state.level + charge.amount().cast_signed()).min(MAX_EXACT.cast_signed())
}

/// Stores a counter in this state, over the row that read as `level`.
fn write<C: JudgedCharge>(
    charge: &C,
    before: Option<&Row>,
    level: i64,
    state: CounterState,
    offered: Option<&Windows>,
    now: Micros,
    rows: &mut impl Rows<C>,
) {
    replace(charge, before, level, charge.write(before, state, offered, now), rows);
}

/// Replaces a row by one that reserves nothing; its annex follows.
fn replace<C: JudgedCharge>(
    charge: &C,
    before: Option<&Row>,
    level: i64,
    (row, until): Written,
    rows: &mut impl Rows<C>,
) {
    let annex = rows.annex(charge);
    if !annex.is_empty() {
        let annex = charge.follow(annex, before, level, &row);
        rows.write_annex(charge, annex, None);
    }
    rows.write(charge, row, until + charge.retention());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::algorithm::{Calendar, Period, Quota, Throttle};
    use crate::limit::{ChargeMode, Limit, Subject, Unit};

    const NOW: Micros = Micros::from_secs(1_774_656_000);

    fn forced(limit: &Arc<Limit>, cost: u64) -> Charge {
        let charge = Charge::new(Subject::api_key("a"), Arc::clone(limit), cost);
        Charge { mode: ChargeMode::Always, ..charge }
    }

    fn judge_at(charges: &[Charge], now: Micros, rows: &mut RowTable) -> Verdict {
        judge(charges, &offered_windows(charges, now), now, rows).unwrap()
    }

    /// A token bucket of ten units that drains one a second, and a quota of ten units a day.
    fn limits() -> [Arc<Limit>; 2] {
        let throttle = Throttle::new("1/s".parse().unwrap(), 10).unwrap();
        let calendar = Arc::new(Calendar::new(Period::Day, "UTC").unwrap());
        let quota = Quota { limit: 10, calendar };
        [
            Arc::new(Limit::new("t", Unit::requests(), throttle, false)),
            Arc::new(Limit::new("q", Unit::requests(), quota, false)),
        ]
    }

    #[test]
    fn a_forced_charge_is_made_without_room_and_is_paid_by_time_or_the_window() {
        let waits = [Micros::from_secs(21), Micros::from_secs(86_400)];
        for (limit, wait) in limits().iter().zip(waits) {
            let mut rows = RowTable::default();
            let verdict = judge_at(&[forced(limit, 30)], NOW, &mut rows);
            assert!(!verdict.allowed, "30 units do not fit into 10");
            let next = Charge::new(Subject::api_key("a"), Arc::clone(limit), 1);
            let verdict = judge_at(std::slice::from_ref(&next), NOW, &mut rows);
            assert!(!verdict.allowed);
            let status = limit_status(&next, verdict.states[0], false, NOW);
            assert_eq!((status.remaining, status.retry_after), (0, wait), "{}", limit.name());
            let early = NOW + Micros::new(wait.get() - 1);
            assert!(!judge_at(std::slice::from_ref(&next), early, &mut rows).allowed);
            assert!(judge_at(&[next], NOW + wait, &mut rows).allowed);
        }
    }

    #[test]
    fn the_status_after_a_forced_charge_is_the_debt_and_the_time_that_pays_it() {
        let waits = [Micros::from_secs(20), Micros::from_secs(86_400)];
        for (limit, wait) in limits().iter().zip(waits) {
            let mut rows = RowTable::default();
            let report = forced(limit, 30);
            let verdict = judge_at(std::slice::from_ref(&report), NOW, &mut rows);
            let status = limit_status(&report, verdict.states[0], true, NOW);
            assert_eq!((status.fits, status.remaining, status.debt), (false, 0, 20));
            assert_eq!(status.retry_after, wait, "{}", limit.name());
            let look = Charge { cost: 0, mode: ChargeMode::IfFits, ..report };
            let verdict = judge_at(std::slice::from_ref(&look), NOW, &mut rows);
            assert!(!verdict.allowed, "a look at a counter in debt");
            let status = limit_status(&look, verdict.states[0], false, NOW);
            assert_eq!((status.debt, status.retry_after), (20, wait), "{}", limit.name());
            assert!(judge_at(&[look], NOW + wait, &mut rows).allowed);
        }
    }

    #[test]
    fn a_forced_charge_without_room_refuses_the_other_charges_of_its_check() {
        let [throttle, quota] = limits();
        let mut rows = RowTable::default();
        let other = Charge::new(Subject::api_key("a"), Arc::clone(&quota), 1);
        assert!(!judge_at(&[forced(&throttle, 11), other.clone()], NOW, &mut rows).allowed);
        let untouched = judge_at(&[Charge { cost: 0, ..other }], NOW, &mut rows);
        assert_eq!(untouched.states[0].level, 0);
        let peek = Charge::new(Subject::api_key("a"), throttle, 0);
        let state = judge_at(std::slice::from_ref(&peek), NOW, &mut rows).states[0];
        assert_eq!(state.unsigned_level(), peek.limit.amount(11));
    }

    #[test]
    fn a_level_never_exceeds_what_a_double_holds() {
        for limit in limits() {
            let mut rows = RowTable::default();
            for _ in 0..3 {
                judge_at(&[forced(&limit, MAX_EXACT)], NOW, &mut rows);
            }
            let level = judge_at(&[forced(&limit, 0)], NOW, &mut rows).states[0].level;
            assert_eq!(level, MAX_EXACT.cast_signed());
        }
    }
}
