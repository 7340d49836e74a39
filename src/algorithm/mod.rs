//! How a check is judged: pure functions of rows, charges and the time. The reference.
//!
//! The embedded store and the replay of recorded histories run this code; Redis runs the twin in
//! `lua/`. Property tests hold the two equal, bit for bit. Nothing here does I/O or knows a clock.

pub mod calendar_quota;
pub mod usage;
mod refund;
pub mod token_bucket;

use smallvec::SmallVec;

use crate::limit::{Algorithm, Charge, WindowStart, Windows};
use crate::time::Micros;
use calendar_quota::Count;
pub use refund::refund;
use token_bucket::Bucket;

/// What is stored for one limit of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// Of a throttle.
    Bucket(Bucket),
    /// Of a quota.
    Count(Count),
}

impl Row {
    fn bucket(self) -> Option<Bucket> {
        if let Self::Bucket(bucket) = self { Some(bucket) } else { None }
    }

    /// What a quota's row says; nothing where it is a throttle's.
    #[must_use]
    pub fn count(self) -> Option<Count> {
        if let Self::Count(count) = self { Some(count) } else { None }
    }
}

/// How a limit stood just before a check was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterState {
    /// What its counter held: a throttle's level in `1/per` units, a quota's use in units, which is
    /// below 0 where more than the limit is left.
    pub level: i64,
    /// The window that counts; always 0 for a throttle.
    pub window: WindowStart,
}

impl CounterState {
    /// What a throttle's counter held.
    #[must_use]
    pub fn unsigned_level(&self) -> u64 {
        self.level.unsigned_abs()
    }
}

/// The answer to a check, as a store gives it: everything else is worked out from this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The store's clock when it judged.
    pub now: Micros,
    /// Whether all limits that refuse had room; then every charge that fitted was made.
    pub allowed: bool,
    /// How each charge's limit stood before, in the charges' order.
    pub states: SmallVec<[CounterState; 4]>,
}

/// Why a check was not judged; nothing was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotJudged {
    /// The store's clock lay outside the windows that were offered.
    WindowMiss,
    /// It would be charged over a day that has to be kept first; see [`usage`].
    DayRollover,
}

/// Where rows are kept, under the guard of whoever calls [`judge`].
pub trait Rows {
    /// The row of a charge's limit and subject.
    fn read(&self, charge: &Charge) -> Option<Row>;
    /// Replaces it. `until` is when the row ceases to matter.
    fn write(&mut self, charge: &Charge, row: Row, until: Micros);
}

/// The windows to offer for each charge, around the time that the store's clock probably shows.
#[must_use]
pub fn offered_windows(charges: &[Charge], now: Micros) -> OfferedWindows {
    let windows = |charge: &Charge| match charge.limit.algorithm() {
        Algorithm::CalendarQuota(quota) => Some(quota.calendar.windows(now)),
        Algorithm::TokenBucket(_) => None,
    };
    charges.iter().map(windows).collect()
}

/// For each charge the windows to choose from, where it is a quota.
pub type OfferedWindows = SmallVec<[Option<Windows>; 4]>;

/// Judges all charges of one check as one: all are made, or none.
///
/// Charges that only look (cost 0), and those that do not fit and do not refuse for it, are not made. No counter
/// may be charged twice in one call. Buckets that the clock has stepped back behind are written
/// with their level as it is, whatever the verdict.
///
/// # Errors
/// Where `now` lies outside the windows on offer, or a day has to be kept first; then nothing was
/// written.
pub fn judge(
    charges: &[Charge],
    offered: &[Option<Windows>],
    now: Micros,
    rows: &mut impl Rows,
) -> Result<Verdict, NotJudged> {
    let mut verdict = Verdict { now, allowed: true, states: SmallVec::new() };
    let mut ahead_of_clock = SmallVec::<[bool; 4]>::new();
    // Of the alternatives whether one has room; `None` where there are none.
    let mut alternatives = None;
    let mut rolls_over = false;
    for (charge, windows) in charges.iter().zip(offered) {
        let row = rows.read(charge);
        let state = read_state(charge, windows.as_ref(), now, row)?;
        let fits = fits(charge, state);
        if charge.limit.alternative() {
            alternatives = Some(fits || charge.limit.shadow() || alternatives == Some(true));
        }
        verdict.allowed &= fits || !charge.limit.refuses_alone();
        rolls_over |= fits && charge.cost > 0 && usage::is_rollover(charge, row, state.window);
        verdict.states.push(state);
        ahead_of_clock.push(token_bucket::is_ahead(row.and_then(Row::bucket), now));
    }
    verdict.allowed &= alternatives != Some(false);
    if verdict.allowed && rolls_over {
        return Err(NotJudged::DayRollover);
    }
    for (index, (charge, windows)) in charges.iter().zip(offered).enumerate() {
        let state = verdict.states[index];
        let made = verdict.allowed && charge.cost > 0 && fits(charge, state);
        if made || ahead_of_clock[index] {
            let level = state.level + if made { charge.amount().cast_signed() } else { 0 };
            let before = rows.read(charge);
            let (row, until) =
                updated_row(charge, before, windows.as_ref(), CounterState { level, ..state }, now);
            rows.write(charge, row, until);
        }
    }
    Ok(verdict)
}

fn read_state(
    charge: &Charge,
    windows: Option<&Windows>,
    now: Micros,
    row: Option<Row>,
) -> Result<CounterState, NotJudged> {
    match charge.limit.algorithm() {
        Algorithm::TokenBucket(throttle) => {
            let level = token_bucket::level(row.and_then(Row::bucket), throttle, now).cast_signed();
            Ok(CounterState { level, window: WindowStart::new(0) })
        }
        Algorithm::CalendarQuota(_) => {
            let (start, _) =
                windows.and_then(|windows| windows.window_at(now)).ok_or(NotJudged::WindowMiss)?;
            let count = calendar_quota::current_count(row.and_then(Row::count), start);
            Ok(CounterState { level: count.used, window: count.window })
        }
    }
}

/// Whether a charge fits where its limit stands so.
#[must_use]
pub fn fits(charge: &Charge, state: CounterState) -> bool {
    // All three are below 2^54.
    state.level + charge.amount().cast_signed() <= charge.limit.size().cast_signed()
}

/// The row of a counter that stands at `state`, and when it ceases to matter.
fn updated_row(
    charge: &Charge,
    before: Option<Row>,
    windows: Option<&Windows>,
    state: CounterState,
    now: Micros,
) -> (Row, Micros) {
    match charge.limit.algorithm() {
        Algorithm::TokenBucket(throttle) => {
            let before = before.and_then(Row::bucket);
            let bucket = token_bucket::updated(before, state.unsigned_level(), throttle, now);
            (Row::Bucket(bucket), now + token_bucket::until_empty(state.unsigned_level(), throttle))
        }
        Algorithm::CalendarQuota(quota) => {
            let current = windows.and_then(|windows| windows.window_at(now));
            let end = match current {
                Some((start, end)) if start == state.window => end,
                _ => quota.calendar.end_of(state.window),
            };
            let count = Count { used: state.level, window: state.window };
            (Row::Count(count), end + charge.limit.retention())
        }
    }
}

/// What an answer tells of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// Whether the charge fitted.
    pub fits: bool,
    /// Whole units left: after the charge where it was made, else as they are.
    pub remaining: u64,
    /// Until the bucket is empty, or the window ends.
    pub reset: Micros,
    /// Until this very cost fits: nothing where it did, [`Micros::MAX`] where it never will.
    pub retry_after: Micros,
    /// Until one unit more is left than now; for a quota until the window ends.
    pub next_unit: Micros,
}

/// Works out what an answer tells of one limit; `made` is whether the charge was made.
#[must_use]
pub fn limit_status(charge: &Charge, state: CounterState, made: bool, now: Micros) -> LimitStatus {
    let fits = fits(charge, state);
    let level = state.level + if made { charge.amount().cast_signed() } else { 0 };
    let (remaining, reset, wait, next_unit) = match charge.limit.algorithm() {
        Algorithm::TokenBucket(throttle) => {
            let (level, before) = (level.unsigned_abs(), state.unsigned_level());
            (
                token_bucket::remaining(level, throttle),
                token_bucket::until_empty(level, throttle),
                token_bucket::wait(before, charge.amount(), throttle),
                token_bucket::until_next_unit(level, throttle),
            )
        }
        Algorithm::CalendarQuota(quota) => {
            let rest = quota.calendar.end_of(state.window).since(now);
            let left = quota.limit.cast_signed() - level;
            (u64::try_from(left).unwrap_or(0), rest, rest, rest)
        }
    };
    let retry_after = match () {
        () if fits => Micros::ZERO,
        () if charge.exceeds_capacity() => Micros::MAX,
        () => wait,
    };
    LimitStatus { fits, remaining, reset, retry_after, next_unit }
}
