//! Operations on reservations among the checks of a call, in the bytes that `lua/reservations.lua`
//! defines.
//!
//! Running them is `judge`'s.

use smallvec::SmallVec;

use super::arguments::{CallArguments, MalformedCall, Reader};
use super::charge::PackedCharge;
use crate::limit::{
    AdjustedUnits, AdjustmentKind, MAX_RESERVED_SUBJECTS, NewReservation, ReservationTerms,
};
use crate::time::Micros;

/// The codes of operations, above any number of charges.
const RESERVE: u8 = 251;
const ADJUST: u8 = 252;

/// An operation on a reservation, which is named by the place of its key.
pub(super) enum Operation<'c> {
    /// The check opens a reservation if it is allowed.
    Reserve(NewReservation<usize>),
    /// The charges of a reservation are adjusted.
    Adjust(PackedAdjustment<'c>),
}

/// An adjustment of a reservation's charges.
pub(super) struct PackedAdjustment<'c> {
    /// The place of its key among those of reservations, from 0.
    pub(super) reservation: usize,
    /// Its terms.
    pub(super) terms: &'c [u8],
    /// The change.
    pub(super) kind: AdjustmentKind,
    /// For each charge a look at its counter, unless the limit no longer exists, and the units that
    /// it comes to.
    pub(super) charges: Vec<(Option<PackedCharge<'c>>, AdjustedUnits)>,
}

/// The parts with which both operations begin.
struct Head {
    reservation: usize,
    ttl: Micros,
    terms_len: usize,
}

impl<'c> CallArguments<'c> {
    /// The rest of an operation behind its code. The charges of its check are added to `charges`.
    pub(super) fn parse_operation(
        &self,
        code: u8,
        reader: &mut Reader<'c>,
        charges: &mut Vec<PackedCharge<'c>>,
    ) -> Result<Operation<'c>, MalformedCall> {
        let why = MalformedCall::Operation;
        let len = usize::try_from(u32::from_le_bytes(reader.take()?)).map_err(|_| why)?;
        let mut reader = reader.part(len)?;
        let Head { reservation, ttl, terms_len } = self.parse_head(&mut reader)?;
        let operation = match code {
            RESERVE => {
                let check = reader.take()?;
                let terms = ReservationTerms::new(reader.slice(terms_len)?).ok_or(why)?;
                let count = reader.byte()?;
                let before = charges.len();
                self.parse_charges(count, &mut reader, charges)?;
                let mut subjects = SmallVec::<[usize; MAX_RESERVED_SUBJECTS]>::new();
                for charge in &charges[before..] {
                    if !subjects.contains(&charge.key) {
                        subjects.push(charge.key);
                    }
                }
                if !(1..=MAX_RESERVED_SUBJECTS).contains(&subjects.len()) {
                    return Err(why);
                }
                Operation::Reserve(NewReservation { name: reservation, check, ttl, terms })
            }
            ADJUST => {
                let terms = reader.slice(terms_len)?;
                let count = reader.byte()?;
                let charges = (0..count).map(|_| self.parse_adjusted_charge(&mut reader));
                let charges = charges.collect::<Result<_, _>>()?;
                let kind = if ttl == Micros::ZERO {
                    AdjustmentKind::Close
                } else {
                    AdjustmentKind::Extend { ttl }
                };
                Operation::Adjust(PackedAdjustment { reservation, terms, kind, charges })
            }
            _ => return Err(why),
        };
        if reader.is_at_end() { Ok(operation) } else { Err(why) }
    }

    fn parse_head(&self, reader: &mut Reader<'_>) -> Result<Head, MalformedCall> {
        let why = MalformedCall::Operation;
        let reservation = usize::from(reader.index()?).checked_sub(1);
        let reservation = reservation.filter(|place| *place < self.reservations).ok_or(why)?;
        let ttl = Micros::new(reader.whole(why)?);
        Ok(Head { reservation, ttl, terms_len: reader.index()?.into() })
    }

    /// A look at a counter, unless its limit no longer exists; and the units, one more below 0 if they
    /// are the least.
    fn parse_adjusted_charge(
        &self,
        reader: &mut Reader<'_>,
    ) -> Result<(Option<PackedCharge<'c>>, AdjustedUnits), MalformedCall> {
        let (key, limit) = (reader.index()?, reader.index()?);
        let (units, is_least) = reader.signed()?;
        let units = if is_least {
            AdjustedUnits::AtLeast(units.saturating_sub(1))
        } else {
            AdjustedUnits::Exactly(units)
        };
        let look = (limit > 0).then(|| self.look(key, limit)).transpose()?;
        Ok((look, units))
    }
}
