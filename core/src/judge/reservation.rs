//! Reservations: a check whose charges are adjusted once it is known what was used. The reference;
//! its twin is `lua/reservations.lua`.
//!
//! Reserving charges a check as [`judge`](super::judge) does and keeps a note of it under a name;
//! settling, cancelling and extending adjust those charges. Usage in units, handles and prices are
//! the caller's.
//!
//! Each subject numbers its reservations, and the numbers have a birth tag: where a subject was
//! forgotten and numbers anew, reservations of its earlier life give nothing back.

use smallvec::SmallVec;

use super::{NotJudged, Rows, Verdict, assess, is_made, write, write_assessed};
use crate::algorithm::{
    AdjustedCounter, ChargeChange, CounterState, Counting as _, NewCharge, ReservedCharge,
    Reserving as _, WindowStart, Windows,
};
use crate::limit::{
    AdjustedUnits, Adjustment, AdjustmentKind, Charge, ChargeAdjustment, LATE_SETTLEMENT,
    NewReservation, ReservationName, ReservationTerms, Subject,
};
use crate::time::Micros;

/// The numbers of a subject's reservations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationNumbers {
    /// The number of the newest reservation, from 1.
    pub last: u64,
    /// A random tag of this life of the numbers.
    pub birth: [u8; ReservationTerms::SECRET_LEN],
    /// The time, in whole seconds, until which a reservation may be open; later the numbers mean
    /// nothing.
    pub until: Micros,
}

/// A reservation as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReservation {
    /// The digest of the check that opened it.
    pub check: [u8; 8],
    /// The end of its ttl.
    pub ends: Micros,
    /// The terms.
    pub terms: ReservationTerms,
    /// The charges in their order.
    pub charges: Vec<KeptCharge>,
}

/// A charge of a reservation as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptCharge {
    /// The units charged; `None` if the charge was not made, since a limit in shadow had no room.
    pub units: Option<u64>,
    /// The window charged; 0 if the algorithm has no windows.
    pub window: WindowStart,
    /// The reservation's number among those of the charge's subject.
    pub number: u64,
    /// The birth tag of that number.
    pub birth: [u8; ReservationTerms::SECRET_LEN],
}

/// Rows with the numbers of their subjects' reservations.
pub trait NumberedRows: Rows {
    /// The numbers of a subject's reservations.
    fn numbers(&self, subject: Subject) -> Option<ReservationNumbers>;
}

/// Rows that keep reservations too.
pub trait ReservationRows: NumberedRows {
    /// Replaces the numbers of a subject.
    fn write_numbers(&mut self, subject: Subject, numbers: ReservationNumbers);
    /// The reservation of this name.
    fn reservation(&self, name: ReservationName) -> Option<KeptReservation>;
    /// Replaces the reservation of this name, or removes it.
    fn write_reservation(&mut self, name: ReservationName, kept: Option<KeptReservation>);
}

/// The outcome of a check that opens a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The check was judged; the reservation is open if the verdict allows it.
    Judged(Verdict),
    /// The same check is open under this name; nothing was charged, and the states are today's.
    Replayed(Verdict, ReservationTerms),
    /// Another check is open under this name, or this one's ttl is over; nothing was charged.
    Conflict,
}

/// The outcome of an adjustment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adjusted {
    /// There is no such reservation.
    Unknown,
    /// The reservation's charges are adjusted.
    Done {
        /// True if its ttl was over.
        is_late: bool,
        /// The charges in their order.
        charges: Vec<AdjustedCharge>,
    },
}

/// A charge of a reservation after an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdjustedCharge {
    /// The units that were charged before; `None` if the charge was not made, since a limit in
    /// shadow had no room. Such a charge is not adjusted.
    pub charged: Option<u64>,
    /// The state of its counter afterwards; `None` for a limit that no longer exists.
    pub state: Option<CounterState>,
}

/// Judges a check as [`judge`](super::judge) does and, if it is allowed, opens a reservation.
///
/// # Errors
/// As [`judge`](super::judge); then nothing was written.
pub fn reserve(
    charges: &[Charge],
    offered: &[Option<Windows>],
    new: &NewReservation,
    now: Micros,
    rows: &mut impl ReservationRows,
) -> Result<Reserved, NotJudged> {
    if let Some(open) = find_open(charges, offered, new, now, rows)? {
        return Ok(open);
    }
    let assessed = assess(charges, offered, now, rows)?.writable()?;
    if !assessed.verdict.allowed {
        write_assessed(charges, offered, &assessed, rows);
        return Ok(Reserved::Judged(assessed.verdict));
    }
    let ends = now + new.ttl;
    let mut numbered = SmallVec::<[(Subject, ReservationNumbers); 2]>::new();
    let mut kept = Vec::with_capacity(charges.len());
    for (index, charge) in charges.iter().enumerate() {
        let known = numbered.iter().find(|(subject, _)| *subject == charge.subject);
        let numbers = if let Some(&(_, numbers)) = known {
            numbers
        } else {
            let numbers = next_number(charge.subject, new, ends, now, rows);
            numbered.push((charge.subject, numbers));
            numbers
        };
        let (state, windows) = (assessed.verdict.states[index], offered[index].as_ref());
        let is_made = is_made(charge, state, true);
        if is_made {
            charge_reservation(charge, state, numbers, new.ttl, windows, now, rows);
        } else if assessed.ahead[index] {
            write(charge, state.level, state, windows, now, rows);
        }
        kept.push(KeptCharge {
            units: (is_made || charge.cost == 0).then_some(charge.cost),
            window: state.window,
            number: numbers.last,
            birth: numbers.birth,
        });
    }
    let kept = KeptReservation { check: new.check, ends, terms: new.terms.clone(), charges: kept };
    rows.write_reservation(new.name, Some(kept));
    Ok(Reserved::Judged(assessed.verdict))
}

/// The outcome that [`reserve`] would have now. Writes nothing.
///
/// # Errors
/// As [`dry_run`](super::dry_run).
pub fn dry_run(
    charges: &[Charge],
    offered: &[Option<Windows>],
    new: &NewReservation,
    now: Micros,
    rows: &impl ReservationRows,
) -> Result<Reserved, NotJudged> {
    match find_open(charges, offered, new, now, rows)? {
        Some(open) => Ok(open),
        None => super::dry_run(charges, offered, now, rows).map(Reserved::Judged),
    }
}

/// The outcome of a check under whose name a reservation is open; `None` if there is none.
fn find_open(
    charges: &[Charge],
    offered: &[Option<Windows>],
    new: &NewReservation,
    now: Micros,
    rows: &impl ReservationRows,
) -> Result<Option<Reserved>, NotJudged> {
    let Some(kept) = kept_reservation(new.name, now, rows) else { return Ok(None) };
    if kept.check != new.check || kept.ends < now {
        return Ok(Some(Reserved::Conflict));
    }
    let looks: SmallVec<[Charge; 2]> =
        charges.iter().map(|charge| Charge { cost: 0, ..charge.clone() }).collect();
    let verdict = assess(&looks, offered, now, rows)?.verdict;
    Ok(Some(Reserved::Replayed(Verdict { allowed: true, ..verdict }, kept.terms)))
}

/// Adjusts the charges of a reservation.
///
/// # Errors
/// If `now` lies outside the offered windows, or a day of usage has to be kept first; then nothing
/// was written.
pub fn adjust(
    adjustment: &Adjustment,
    offered: &[Option<Windows>],
    now: Micros,
    rows: &mut impl ReservationRows,
) -> Result<Adjusted, NotJudged> {
    let kept = kept_reservation(adjustment.name, now, rows);
    let matches = |kept: &KeptReservation| {
        kept.terms == adjustment.terms && kept.charges.len() == adjustment.charges.len()
    };
    let Some(mut kept) = kept.filter(matches) else { return Ok(Adjusted::Unknown) };
    let looks: Vec<_> = adjustment.charges.iter().map(ChargeAdjustment::look).collect();
    let mut counters = Vec::with_capacity(kept.charges.len());
    for (index, look) in looks.iter().enumerate() {
        let (units, kept) = (adjustment.charges[index].units, &kept.charges[index]);
        let windows = offered[index].as_ref();
        let counter = look
            .as_ref()
            .map(|look| adjust_counter(look, units, adjustment.kind, kept, windows, now, rows));
        counters.push(counter.transpose()?);
    }
    let is_late = kept.ends < now;
    let until = match adjustment.kind {
        AdjustmentKind::Close => None,
        AdjustmentKind::Extend { ttl } => {
            kept.ends = now + ttl;
            Some(meaningful_until(kept.ends))
        }
    };
    let mut charges = Vec::with_capacity(counters.len());
    for (index, counter) in counters.into_iter().enumerate() {
        let (kept, state) = (&mut kept.charges[index], counter.as_ref().map(|it| it.state));
        charges.push(AdjustedCharge { charged: kept.units, state });
        let Some((look, counter)) = looks[index].as_ref().zip(counter) else { continue };
        kept.units = kept.units.map(|charged| adjustment.charges[index].units.over(charged));
        if let Some((row, until)) = counter.written {
            rows.write(look, row, until + look.limit.retention());
        }
        if let Some(annex) = counter.annex {
            rows.write_annex(look, annex, until);
        }
        if let Some(until) = until {
            prolong_numbers(look.subject, kept, until, now, rows);
        }
    }
    rows.write_reservation(adjustment.name, until.map(|_| kept));
    Ok(Adjusted::Done { is_late, charges })
}

/// The reservation of this name, unless it can no longer be settled.
fn kept_reservation(
    name: ReservationName,
    now: Micros,
    rows: &impl ReservationRows,
) -> Option<KeptReservation> {
    rows.reservation(name).filter(|kept| now <= kept.ends + LATE_SETTLEMENT)
}

/// The time until which the numbers of a reservation that ends at `ends` matter, in whole seconds.
fn meaningful_until(ends: Micros) -> Micros {
    Micros::from_secs((ends + LATE_SETTLEMENT).as_secs_ceil())
}

/// Numbers a new reservation of this subject.
fn next_number(
    subject: Subject,
    new: &NewReservation,
    ends: Micros,
    now: Micros,
    rows: &mut impl ReservationRows,
) -> ReservationNumbers {
    let until = meaningful_until(ends);
    let numbers = match rows.numbers(subject).filter(|numbers| numbers.until >= now) {
        Some(numbers) => ReservationNumbers {
            last: numbers.last + 1,
            until: numbers.until.max(until),
            ..numbers
        },
        None => ReservationNumbers { last: 1, birth: new.terms.secret(), until },
    };
    rows.write_numbers(subject, numbers);
    numbers
}

/// Keeps the numbers of a reservation that is extended, if they are still of its life.
fn prolong_numbers(
    subject: Subject,
    kept: &KeptCharge,
    until: Micros,
    now: Micros,
    rows: &mut impl ReservationRows,
) {
    if let Some(numbers) = current_numbers(subject, kept, now, rows)
        && numbers.until < until
    {
        rows.write_numbers(subject, ReservationNumbers { until, ..numbers });
    }
}

/// The numbers of a subject, if they are of the same life as the number of a kept charge.
fn current_numbers(
    subject: Subject,
    kept: &KeptCharge,
    now: Micros,
    rows: &impl ReservationRows,
) -> Option<ReservationNumbers> {
    rows.numbers(subject).filter(|numbers| numbers.until >= now && numbers.birth == kept.birth)
}

/// Makes one charge of a reservation.
fn charge_reservation(
    charge: &Charge,
    state: CounterState,
    numbers: ReservationNumbers,
    ttl: Micros,
    offered: Option<&Windows>,
    now: Micros,
    rows: &mut impl ReservationRows,
) {
    let (before, annex) = (rows.read(charge), rows.annex(charge));
    let ((row, until), annex) = charge.limit.algorithm().reserve(
        (before.as_ref(), &annex),
        state,
        NewCharge { amount: charge.amount(), number: numbers.last, ttl },
        offered,
        now,
    );
    rows.write(charge, row, until + charge.limit.retention());
    rows.write_annex(charge, annex, Some(numbers.until));
}

/// The counter of one charge after its adjustment.
fn adjust_counter(
    charge: &Charge,
    units: AdjustedUnits,
    kind: AdjustmentKind,
    kept: &KeptCharge,
    offered: Option<&Windows>,
    now: Micros,
    rows: &impl ReservationRows,
) -> Result<AdjustedCounter, NotJudged> {
    let (before, annex) = (rows.read(charge), rows.annex(charge));
    let algorithm = charge.limit.algorithm();
    let reading = algorithm.read((before.as_ref(), &annex), offered, now)?;
    let Some(charged) = kept.units else {
        return Ok(AdjustedCounter { written: None, annex: None, state: reading.state });
    };
    let units = units.over(charged);
    if reading.is_rollover && charge.limit.tracks_days() && units > charged {
        return Err(NotJudged::DayRollover);
    }
    let number = current_numbers(charge.subject, kept, now, rows).map(|_| kept.number);
    let charged = ReservedCharge { number, window: kept.window, units: charged };
    let open_for = match kind {
        AdjustmentKind::Close => None,
        AdjustmentKind::Extend { ttl } => Some(ttl),
    };
    let counter = (before.as_ref(), &*annex);
    Ok(algorithm.adjust(counter, &charged, ChargeChange { units, open_for }, offered, now)?)
}
