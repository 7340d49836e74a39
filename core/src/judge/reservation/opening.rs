//! Opening a reservation: a check that is judged, charged and kept.
//!
//! Adjusting its charges is `adjusting`'s.

use smallvec::SmallVec;

use super::{
    KeptCharge, KeptNumber, KeptReservation, NumberedRows, ReservationNumbers, ReservationRows,
    Reserved, kept_reservation, meaningful_until, numbers_at,
};
use crate::algorithm::{CounterState, NewCharge, Windows};
use crate::judge::{
    Assessed, JudgedCharge, NotJudged, Verdict, assess, is_made, write, write_assessed,
};
use crate::limit::NewReservation;
use crate::time::Micros;

/// A check that is to open a reservation, and of which nothing is written yet.
pub(crate) enum Prepared<S> {
    /// There is nothing to write: a reservation of this name is open.
    Open(Reserved),
    /// The check was judged. If it is allowed, the new numbers of its subjects.
    Judged(Assessed, NewNumbers<S>),
}

/// The new numbers of subjects, in the order of their first charges.
type NewNumbers<S> = SmallVec<[(S, ReservationNumbers); 1]>;

/// Judges a check as [`judge`](crate::judge::judge) does and, if it is allowed, opens a reservation.
///
/// # Errors
/// As [`judge`](crate::judge::judge); then nothing was written.
pub fn reserve<C: JudgedCharge, R: ReservationRows<C>>(
    charges: &[C],
    offered: &[Option<Windows>],
    new: &NewReservation<R::Name>,
    now: Micros,
    rows: &mut R,
) -> Result<Reserved, NotJudged<C::Subject>> {
    let prepared = prepare_reserve(charges, offered, new, now, rows)?;
    Ok(write_reserve(charges, offered, new, prepared, rows))
}

/// The outcome that [`reserve`] would have now. Writes nothing.
///
/// # Errors
/// As [`dry_run`](crate::judge::dry_run).
pub fn dry_run<C: JudgedCharge, R: ReservationRows<C>>(
    charges: &[C],
    offered: &[Option<Windows>],
    new: &NewReservation<R::Name>,
    now: Micros,
    rows: &R,
) -> Result<Reserved, NotJudged<C::Subject>> {
    match find_open(charges, offered, new, now, rows)? {
        Some(open) => Ok(open),
        None => crate::judge::dry_run(charges, offered, now, rows).map(Reserved::Judged),
    }
}

/// Judges a check and numbers its reservation; nothing is written.
pub(crate) fn prepare_reserve<C: JudgedCharge, R: ReservationRows<C>>(
    charges: &[C],
    offered: &[Option<Windows>],
    new: &NewReservation<R::Name>,
    now: Micros,
    rows: &R,
) -> Result<Prepared<C::Subject>, NotJudged<C::Subject>> {
    if let Some(open) = find_open(charges, offered, new, now, rows)? {
        return Ok(Prepared::Open(open));
    }
    let assessed = assess(charges, offered, now, rows)?;
    assessed.ensure_writable()?;
    let mut numbered = NewNumbers::new();
    if assessed.verdict.allowed {
        for subject in charges.iter().map(C::subject) {
            if !numbered.iter().any(|(known, _)| *known == subject) {
                numbered.push((subject, next_number(subject, new, now, rows)));
            }
        }
    }
    Ok(Prepared::Judged(assessed, numbered))
}

/// Makes the charges of a check that was prepared, and keeps its reservation if it is allowed.
pub(crate) fn write_reserve<C: JudgedCharge, R: ReservationRows<C>>(
    charges: &[C],
    offered: &[Option<Windows>],
    new: &NewReservation<R::Name>,
    prepared: Prepared<C::Subject>,
    rows: &mut R,
) -> Reserved {
    let (assessed, numbered) = match prepared {
        Prepared::Open(reserved) => return reserved,
        Prepared::Judged(assessed, numbered) => (assessed, numbered),
    };
    let Verdict { now, allowed, .. } = assessed.verdict;
    if !allowed {
        write_assessed(charges, offered, &assessed, rows);
        return Reserved::Judged(assessed.verdict);
    }
    let mut kept = SmallVec::with_capacity(charges.len());
    for (index, charge) in charges.iter().enumerate() {
        let of_subject = |(subject, _): &(C::Subject, _)| *subject == charge.subject();
        let place = numbered.iter().position(of_subject).unwrap_or_default();
        let (state, windows) = (assessed.verdict.states[index], offered[index].as_ref());
        let is_made = is_made(charge, state, true);
        if is_made {
            make_charge(charge, state, numbered[place].1, new.ttl, windows, now, rows);
        } else if assessed.counters[index].is_ahead {
            let before = assessed.counters[index].row.as_ref();
            write(charge, before, state.level, state, windows, now, rows);
        }
        kept.push(KeptCharge {
            units: (is_made || charge.amount() == 0).then(|| charge.units()),
            window: state.window,
            place: u8::try_from(place).unwrap_or(u8::MAX),
        });
    }
    let mut numbers = SmallVec::with_capacity(numbered.len());
    for (subject, new) in numbered {
        rows.write_numbers(subject, new);
        numbers.push(KeptNumber { number: new.last, birth: new.birth });
    }
    let (check, ends, terms) = (new.check, now + new.ttl, new.terms.clone());
    let kept = KeptReservation { check, ends, terms, numbers, charges: kept };
    rows.write_reservation(new.name, Some(kept));
    Reserved::Judged(assessed.verdict)
}

/// The outcome of a check under whose name a reservation is open; `None` if there is none.
fn find_open<C: JudgedCharge, R: ReservationRows<C>>(
    charges: &[C],
    offered: &[Option<Windows>],
    new: &NewReservation<R::Name>,
    now: Micros,
    rows: &R,
) -> Result<Option<Reserved>, NotJudged<C::Subject>> {
    let Some(kept) = kept_reservation(new.name, now, rows) else { return Ok(None) };
    if kept.check != new.check || kept.ends < now {
        return Ok(Some(Reserved::Conflict));
    }
    let looks: SmallVec<[C; 2]> = charges.iter().map(C::look).collect();
    let verdict = assess(&looks, offered, now, rows)?.verdict;
    Ok(Some(Reserved::Replayed(Verdict { allowed: true, ..verdict }, kept.terms)))
}

/// The numbers of a subject with that of a new reservation.
fn next_number<C: JudgedCharge, N>(
    subject: C::Subject,
    new: &NewReservation<N>,
    now: Micros,
    rows: &impl NumberedRows<C>,
) -> ReservationNumbers {
    let until = meaningful_until(now + new.ttl);
    match numbers_at(subject, now, rows) {
        Some(numbers) => ReservationNumbers {
            last: numbers.last + 1,
            until: numbers.until.max(until),
            ..numbers
        },
        None => ReservationNumbers { last: 1, birth: new.terms.secret(), until },
    }
}

/// Makes one charge of a reservation.
fn make_charge<C: JudgedCharge>(
    charge: &C,
    state: CounterState,
    numbers: ReservationNumbers,
    ttl: Micros,
    offered: Option<&Windows>,
    now: Micros,
    rows: &mut impl ReservationRows<C>,
) {
    let (before, annex) = (rows.read(charge), rows.annex(charge));
    let ((row, until), annex) = charge.reserve(
        (before.as_ref(), &annex),
        state,
        NewCharge { amount: charge.amount(), number: numbers.last, ttl },
        offered,
        now,
    );
    rows.write(charge, row, until + charge.retention());
    rows.write_annex(charge, annex, Some(numbers.until));
}
