//! A reservation's string, as `lua/reservations.lua` defines it, and its deadline.
//!
//! Opening and adjusting reservations is `judge`'s.

use smallvec::SmallVec;

use super::damage::Damage;
use super::{KeyWrite, StoredValue};
use crate::algorithm::WindowStart;
use crate::judge::reservation::{KeptCharge, KeptNumber, KeptReservation};
use crate::limit::{LATE_SETTLEMENT, ReservationTerms};
use crate::time::Micros;

/// The format of the string, in the lowest three bits of its first byte; above it are the number of
/// subjects that number the reservation.
const FORMAT: u8 = 2;
const FORMAT_BITS: u32 = 3;
/// The bytes of a string: with two charges of a policy it has 124.
type Bytes = SmallVec<[u8; 128]>;

/// The value under a reservation's key.
pub struct ReservationString {
    stored: Option<Bytes>,
    change: Change,
}

/// The change of a key in a call.
enum Change {
    None,
    Kept { expires_at_ms: u64 },
    Removed,
}

/// A key of another type is written over, as a missing one is.
impl From<StoredValue<'_>> for ReservationString {
    fn from(value: StoredValue<'_>) -> Self {
        let stored = match value {
            StoredValue::String(bytes) => Some(Bytes::from_slice(bytes)),
            StoredValue::Missing | StoredValue::OtherType => None,
        };
        Self { stored, change: Change::None }
    }
}

impl ReservationString {
    /// The reservation, unless there is none or it can no longer be settled.
    pub(super) fn read(&self, now: Micros) -> Result<Option<KeptReservation>, Damage> {
        self.stored.as_deref().map_or(Ok(None), |bytes| parse(bytes, now))
    }

    /// Replaces the reservation, or removes it.
    pub(super) fn write(&mut self, kept: Option<&KeptReservation>, now: Micros) {
        self.stored = kept.map(pack);
        self.change = kept.map_or(Change::Removed, |kept| {
            let lifetime = (kept.ends + LATE_SETTLEMENT).since(now).as_millis_ceil();
            // A millisecond more: Redis counts from the beginning of the current one.
            Change::Kept { expires_at_ms: now.get() / 1_000 + lifetime + 1 }
        });
    }

    /// The change to make at the end of a call, if there is one.
    #[must_use]
    pub fn to_write(&self) -> Option<KeyWrite<'_>> {
        match self.change {
            Change::None => None,
            Change::Removed => Some(KeyWrite::Delete),
            Change::Kept { expires_at_ms } => {
                let value = self.stored.as_deref()?;
                Some(KeyWrite::Set { value, expires_at_ms: Some(expires_at_ms) })
            }
        }
    }
}

/// Takes a part of a string.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(Damage::ReservationCutShort)?;
    *bytes = rest;
    Ok(*taken)
}

/// Takes a number of `N` bytes.
fn take_number<const N: usize>(bytes: &mut &[u8]) -> Result<u64, Damage> {
    let mut number = [0; 8];
    number[..N].copy_from_slice(&take::<N>(bytes)?);
    Ok(u64::from_le_bytes(number))
}

fn parse(mut bytes: &[u8], now: Micros) -> Result<Option<KeptReservation>, Damage> {
    let rest = &mut bytes;
    let ([format], ends, [count]) = (take(rest)?, take_number::<7>(rest)?, take::<1>(rest)?);
    let (subjects, ends) = (format >> FORMAT_BITS, Micros::new(ends));
    if format & ((1 << FORMAT_BITS) - 1) != FORMAT || subjects == 0 {
        return Err(Damage::ReservationFormat(format));
    }
    if ends + LATE_SETTLEMENT < now {
        return Ok(None);
    }
    let mut numbers = SmallVec::new();
    for _ in 0..subjects {
        numbers.push(KeptNumber { number: take_number::<6>(rest)?, birth: take(rest)? });
    }
    let mut charges = SmallVec::new();
    for _ in 0..count {
        // Counted from 1.
        let place = if subjects == 1 { 1 } else { take::<1>(rest)?[0] };
        let place = place.checked_sub(1).filter(|place| *place < subjects);
        let place = place.ok_or(Damage::ReservationCutShort)?;
        // Negative if the charge was not made.
        let units = take_number::<7>(rest)?;
        let units = (units >> 55 == 0).then_some(units);
        let window = WindowStart::new(take_number::<5>(rest)?);
        charges.push(KeptCharge { units, window, place });
    }
    let check = take(rest)?;
    let terms = ReservationTerms::new(rest).ok_or(Damage::ReservationCutShort)?;
    Ok(Some(KeptReservation { check, ends, terms, numbers, charges }))
}

fn pack(kept: &KeptReservation) -> Bytes {
    let KeptReservation { check, ends, terms, numbers, charges } = kept;
    let count = |len: usize| u8::try_from(len).unwrap_or(u8::MAX);
    let mut bytes = Bytes::new();
    bytes.push(count(numbers.len()) << FORMAT_BITS | FORMAT);
    bytes.extend_from_slice(&ends.get().to_le_bytes()[..7]);
    bytes.push(count(charges.len()));
    for KeptNumber { number, birth } in numbers {
        bytes.extend_from_slice(&number.to_le_bytes()[..6]);
        bytes.extend_from_slice(birth);
    }
    for KeptCharge { units, window, place } in charges {
        if numbers.len() > 1 {
            bytes.push(place + 1);
        }
        let units = units.map_or(-1, u64::cast_signed);
        bytes.extend_from_slice(&units.to_le_bytes()[..7]);
        bytes.extend_from_slice(&window.get().to_le_bytes()[..5]);
    }
    bytes.extend_from_slice(check);
    bytes.extend_from_slice(terms.as_bytes());
    bytes
}
