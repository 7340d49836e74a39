//! Adjusting the charges of a reservation: settling, cancelling and extending it.
//!
//! The units that a charge comes to are the caller's.

use super::{
    Adjusted, AdjustedCharge, KeptCharge, KeptReservation, NumberedRows, ReservationNumbers,
    ReservationRows, kept_reservation, meaningful_until, numbers_at,
};
use crate::algorithm::{AdjustedCounter, ChargeChange, CounterState, ReservedCharge, Row, Windows};
use crate::judge::{JudgedCharge, NotJudged};
use crate::limit::{
    AdjustedUnits, Adjustment, AdjustmentKind, Charge, ChargeAdjustment, ReservationName,
};
use crate::time::Micros;

/// An adjustment as judging sees it.
pub(crate) struct AdjustmentParts<'a, C, N> {
    /// The name of the reservation.
    pub(crate) name: N,
    /// Its terms, as they were kept.
    pub(crate) terms: &'a [u8],
    /// The change.
    pub(crate) kind: AdjustmentKind,
    /// For each charge a look at its counter, unless its limit no longer exists, and the units that
    /// it comes to.
    pub(crate) charges: &'a [(Option<C>, AdjustedUnits)],
}

/// A reservation to adjust, and the counters of its charges; nothing is written yet.
pub(crate) struct PreparedAdjustment {
    kept: KeptReservation,
    /// `None` for a limit that no longer exists.
    counters: Vec<Option<PreparedCounter>>,
}

struct PreparedCounter {
    adjusted: AdjustedCounter,
    /// The numbers of its subject, if they are of the life in which the charge was made.
    numbers: Option<ReservationNumbers>,
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
    rows: &mut impl ReservationRows<Charge, Name = ReservationName>,
) -> Result<Adjusted, NotJudged> {
    let parts = |charge: &ChargeAdjustment| (charge.look(), charge.units);
    let charges: Vec<_> = adjustment.charges.iter().map(parts).collect();
    let (terms, charges) = (adjustment.terms.as_bytes(), &*charges);
    let parts = AdjustmentParts { name: adjustment.name, terms, kind: adjustment.kind, charges };
    let prepared = prepare_adjustment(&parts, offered, now, rows)?;
    Ok(write_adjustment(&parts, prepared, now, rows))
}

/// Reads all that an adjustment needs; `None` if there is no such reservation.
pub(crate) fn prepare_adjustment<C: JudgedCharge, R: ReservationRows<C>>(
    parts: &AdjustmentParts<'_, C, R::Name>,
    offered: &[Option<Windows>],
    now: Micros,
    rows: &R,
) -> Result<Option<PreparedAdjustment>, NotJudged<C::Subject>> {
    let kept = kept_reservation(parts.name, now, rows).filter(|kept| {
        kept.terms.as_bytes() == parts.terms && kept.charges.len() == parts.charges.len()
    });
    let Some(kept) = kept else { return Ok(None) };
    let mut stored = Vec::with_capacity(kept.charges.len());
    for (index, (look, units)) in parts.charges.iter().enumerate() {
        let (charge, windows) = (kept.charges[index], offered[index].as_ref());
        let read = |look| ReservedCounter::read(look, charge, *units, windows, now, rows);
        stored.push(look.as_ref().map(read).transpose()?);
    }
    let mut counters = Vec::with_capacity(stored.len());
    for counter in stored {
        let adjust = |counter: ReservedCounter<'_, C>| counter.adjust(&kept, parts.kind, now, rows);
        counters.push(counter.map(adjust).transpose()?);
    }
    Ok(Some(PreparedAdjustment { kept, counters }))
}

/// Makes an adjustment that was prepared.
pub(crate) fn write_adjustment<C: JudgedCharge, R: ReservationRows<C>>(
    parts: &AdjustmentParts<'_, C, R::Name>,
    prepared: Option<PreparedAdjustment>,
    now: Micros,
    rows: &mut R,
) -> Adjusted {
    let Some(PreparedAdjustment { mut kept, counters }) = prepared else {
        return Adjusted::Unknown;
    };
    let is_late = kept.ends < now;
    let until = match parts.kind {
        AdjustmentKind::Close => None,
        AdjustmentKind::Extend { ttl } => {
            kept.ends = now + ttl;
            Some(meaningful_until(kept.ends))
        }
    };
    let mut charges = Vec::with_capacity(counters.len());
    for (index, counter) in counters.into_iter().enumerate() {
        let (kept, (look, units)) = (&mut kept.charges[index], &parts.charges[index]);
        let state = counter.as_ref().map(|counter| counter.adjusted.state);
        charges.push(AdjustedCharge { charged: kept.units, state });
        let Some((look, PreparedCounter { adjusted, numbers })) = look.as_ref().zip(counter) else {
            continue;
        };
        kept.units = kept.units.map(|charged| units.over(charged));
        if let Some((row, until)) = adjusted.written {
            rows.write(look, row, until + look.retention());
        }
        if let Some(annex) = adjusted.annex {
            rows.write_annex(look, annex, until);
        }
        if let Some((numbers, until)) = numbers.zip(until)
            && numbers.until < until
        {
            rows.write_numbers(look.subject(), ReservationNumbers { until, ..numbers });
        }
    }
    rows.write_reservation(parts.name, until.map(|_| kept));
    Adjusted::Done { is_late, charges }
}

/// The counter of a charge that is adjusted, as it is stored.
struct ReservedCounter<'a, C> {
    look: &'a C,
    charge: KeptCharge,
    units: AdjustedUnits,
    offered: Option<&'a Windows>,
    row: Option<Row>,
    annex: Vec<u8>,
    state: CounterState,
}

impl<'a, C: JudgedCharge> ReservedCounter<'a, C> {
    fn read(
        look: &'a C,
        charge: KeptCharge,
        units: AdjustedUnits,
        offered: Option<&'a Windows>,
        now: Micros,
        rows: &impl NumberedRows<C>,
    ) -> Result<Self, NotJudged<C::Subject>> {
        let (row, annex) = (rows.read(look), rows.annex(look));
        let reading = look.read((row.as_ref(), &annex), offered, now)?;
        let grows = charge.units.is_some_and(|charged| units.over(charged) > charged);
        if reading.is_rollover && look.tracks_days() && grows {
            return Err(NotJudged::DayRollover);
        }
        Ok(Self { look, charge, units, offered, row, annex, state: reading.state })
    }

    fn adjust(
        self,
        kept: &KeptReservation,
        kind: AdjustmentKind,
        now: Micros,
        rows: &impl NumberedRows<C>,
    ) -> Result<PreparedCounter, NotJudged<C::Subject>> {
        let Self { look, charge, units, offered, .. } = self;
        let own = kept.numbers.get(usize::from(charge.place));
        let numbers = numbers_at(look.subject(), now, rows)
            .filter(|numbers| own.is_some_and(|own| own.birth == numbers.birth));
        let Some(charged) = charge.units else {
            let adjusted = AdjustedCounter { written: None, annex: None, state: self.state };
            return Ok(PreparedCounter { adjusted, numbers });
        };
        let open_for = match kind {
            AdjustmentKind::Close => None,
            AdjustmentKind::Extend { ttl } => Some(ttl),
        };
        let number = own.filter(|_| numbers.is_some()).map(|own| own.number);
        let reserved = ReservedCharge { number, window: charge.window, units: charged };
        let change = ChargeChange { units: units.over(charged), open_for };
        let counter = (self.row.as_ref(), &*self.annex);
        let adjusted = look.adjust(counter, &reserved, change, offered, now)?;
        Ok(PreparedCounter { adjusted, numbers })
    }
}
