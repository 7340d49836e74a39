//! The check that opened a reservation, as its terms keep it: fixed-width digests of subjects and
//! counters, the amounts by unit, and names.
//!
//! No text in it becomes a Redis key: keys are composed of the digests. Decoding trusts nothing;
//! that the terms are genuine is known once the store has found the same ones.

use smallvec::SmallVec;

use super::bytes::{Reader, put_number, put_text};
use super::handle::{MAX_HANDLE_LEN, encoded_len};
use crate::inference::TokenUsage;
use crate::limit::{
    LeasedUnits, MAX_COST, MAX_RESERVED_SUBJECTS, ReservationTerms, RowId, Subject, Unit,
};
use crate::time::{MAX_EXACT, Micros};

/// The layout of the bytes behind the random ones.
const FORMAT: u8 = 1;
/// The bit of the flags of terms that only one node knows.
const NODE_FLAG: u8 = 1;
/// The bit of the flags of terms with charges that were taken from leases. An earlier release reads
/// no terms that have it: it would charge the leased units again.
const LEASES_FLAG: u8 = 2;
/// The most units: a charge has five bits for its unit, beside three for its subject.
const MAX_UNITS: usize = 32;
const UNIT_BITS: u32 = 5;
/// The bit of a unit that is written by its name instead of its index among the built-in ones.
const NAMED_UNIT: u8 = 0x80;

/// A node for as long as its process runs: random bytes.
pub type NodeId = [u8; 8];

/// A check as the terms of its reservation keep it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReservedCheck {
    /// The only node that knows the reservation, from its own share of the limits; `None` if the
    /// store keeps it.
    pub node: Option<NodeId>,
    /// The time for which it was opened, in whole milliseconds.
    pub ttl: Micros,
    /// The plan, or else the first policy as `policy:NAME`.
    pub label: Option<Box<str>>,
    /// The id of the API key.
    pub key_id: Option<Box<str>>,
    /// The model, as the check named it.
    pub model: Option<Box<str>>,
    /// The estimated tokens by kind.
    pub estimate: TokenUsage,
    /// The reserved amount of each unit; at most 32.
    pub amounts: Vec<ReservedAmount>,
    /// The charges, in the order of judging.
    pub charges: Vec<ReservedCharge>,
}

/// The amount of one unit that a check reserved.
#[derive(Clone, Debug, PartialEq)]
pub struct ReservedAmount {
    /// The unit.
    pub unit: Unit,
    /// The amount, at most 2^53.
    pub amount: u64,
}

/// A charge of a reservation; its cost is the amount of its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReservedCharge {
    /// The subject.
    pub subject: Subject,
    /// The counter among the subject's.
    pub row: RowId,
    /// The index of its unit in [`ReservedCheck::amounts`].
    pub unit: usize,
    /// The time at which its lease was charged, by the store's clock, above 0; `None` if the charge
    /// was not taken from a lease.
    pub leased_at: Option<Micros>,
}

/// The reason why a check has no handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnencodableCheck {
    /// It charges more than [`MAX_RESERVED_SUBJECTS`] subjects.
    #[error("the check charges more than {MAX_RESERVED_SUBJECTS} subjects; name fewer policies")]
    TooManySubjects,
    /// Its limits count more than 32 units.
    #[error("the check has limits in more than {MAX_UNITS} units")]
    TooManyUnits,
    /// Its handle would be longer than [`MAX_HANDLE_LEN`] bytes.
    #[error(
        "the handle of this check would have more than {MAX_HANDLE_LEN} bytes; it has too many limits, or too long a model"
    )]
    TooLong,
}

impl ReservedCheck {
    /// The reserved amount of a unit; `None` if the check does not know it.
    #[must_use]
    pub fn amount(&self, unit: &str) -> Option<u64> {
        let named = self.amounts.iter().find(|reserved| reserved.unit.as_str() == unit);
        named.map(|reserved| reserved.amount)
    }

    /// The units of each charge that were taken from a lease, in the charges' order; empty if none
    /// were.
    #[must_use]
    pub fn leased_units(&self) -> Vec<Option<LeasedUnits>> {
        if !self.has_leases() {
            return Vec::new();
        }
        let leased = |charge: &ReservedCharge| {
            let units = self.amounts.get(charge.unit)?.amount;
            charge.leased_at.map(|charged_at| LeasedUnits { units, charged_at })
        };
        self.charges.iter().map(leased).collect()
    }

    fn has_leases(&self) -> bool {
        self.charges.iter().any(|charge| charge.leased_at.is_some())
    }

    /// The terms with these random bytes.
    ///
    /// # Errors
    /// If the check has no room in a handle.
    pub fn encode(
        &self,
        secret: [u8; ReservationTerms::SECRET_LEN],
    ) -> Result<ReservationTerms, UnencodableCheck> {
        let mut subjects = SmallVec::<[Subject; 4]>::new();
        for charge in &self.charges {
            if !subjects.contains(&charge.subject) {
                subjects.push(charge.subject);
            }
        }
        if subjects.len() > MAX_RESERVED_SUBJECTS {
            return Err(UnencodableCheck::TooManySubjects);
        }
        if self.amounts.len() > MAX_UNITS {
            return Err(UnencodableCheck::TooManyUnits);
        }
        let mut out = Vec::with_capacity(192);
        out.extend_from_slice(&secret);
        self.put(&mut out, &subjects)
            .and_then(|()| ReservationTerms::new(&out))
            .filter(|terms| encoded_len(terms.as_bytes().len()) <= MAX_HANDLE_LEN)
            .ok_or(UnencodableCheck::TooLong)
    }

    /// Appends everything behind the random bytes; `None` if a list is too long.
    fn put(&self, out: &mut Vec<u8>, subjects: &[Subject]) -> Option<()> {
        let node = if self.node.is_some() { NODE_FLAG } else { 0 };
        let leases = if self.has_leases() { LEASES_FLAG } else { 0 };
        out.extend_from_slice(&[FORMAT, node | leases]);
        out.extend(self.node.iter().flatten());
        put_number(out, self.ttl.get() / 1_000);
        for text in [&self.label, &self.key_id, &self.model] {
            put_text(out, text.as_deref().unwrap_or_default());
        }
        put_estimate(out, &self.estimate);
        out.push(u8::try_from(self.amounts.len()).ok()?);
        for ReservedAmount { unit, amount } in &self.amounts {
            put_unit(out, unit)?;
            put_number(out, *amount);
        }
        put_subjects(out, subjects)?;
        out.push(u8::try_from(self.charges.len()).ok()?);
        for charge in &self.charges {
            let subject = subjects.iter().position(|subject| *subject == charge.subject)?;
            let mut row = charge.row.to_bytes();
            // The byte is 0 in every id.
            row[0] = u8::try_from(subject << UNIT_BITS | charge.unit).ok()?;
            out.extend_from_slice(&row);
        }
        if leases != 0 {
            for charge in &self.charges {
                put_number(out, charge.leased_at.map_or(0, Micros::get));
            }
        }
        Some(())
    }

    /// The check in these terms; `None` if they are malformed.
    #[must_use]
    pub fn decode(terms: &ReservationTerms) -> Option<Self> {
        let mut reader = Reader(&terms.as_bytes()[ReservationTerms::SECRET_LEN..]);
        let [format, flags] = reader.array()?;
        if format != FORMAT || flags & !(NODE_FLAG | LEASES_FLAG) != 0 {
            return None;
        }
        let node = if flags & NODE_FLAG != 0 { Some(reader.array()?) } else { None };
        let ttl = Micros::new(reader.number()?.checked_mul(1_000)?);
        let mut text = || reader.text().map(|text| (!text.is_empty()).then_some(text));
        let [label, key_id, model] = [text()?, text()?, text()?];
        let estimate = read_estimate(&mut reader)?;
        let count = usize::from(reader.byte()?);
        let amounts: Vec<ReservedAmount> = (0..count)
            .map(|_| {
                let (unit, amount) = (read_unit(&mut reader)?, reader.number()?);
                (amount <= MAX_COST).then_some(ReservedAmount { unit, amount })
            })
            .collect::<Option<_>>()?;
        let subjects = read_subjects(&mut reader)?;
        let count = reader.byte()?;
        let mut charges: Vec<ReservedCharge> = (0..count)
            .map(|_| {
                let (row, place) = RowId::from_head(reader.array()?);
                let unit = place & (MAX_UNITS - 1);
                let subject = *subjects.get(place >> UNIT_BITS)?;
                let charge = ReservedCharge { subject, row, unit, leased_at: None };
                (unit < amounts.len()).then_some(charge)
            })
            .collect::<Option<_>>()?;
        if flags & LEASES_FLAG != 0 {
            for charge in &mut charges {
                let charged_at = reader.number().filter(|&micros| micros <= MAX_EXACT)?;
                charge.leased_at = (charged_at > 0).then_some(Micros::new(charged_at));
            }
        }
        let is_complete = reader.0.is_empty();
        is_complete.then_some(Self { node, ttl, label, key_id, model, estimate, amounts, charges })
    }
}

/// The numbers of an estimate in the order in which they are written.
fn numbers_of(estimate: &TokenUsage) -> [Option<u64>; 5] {
    let TokenUsage { input, cached_input, cache_write, output, total } = *estimate;
    [input, cached_input, cache_write, output, total]
}

/// Appends a bit for each number that is known, then those numbers.
fn put_estimate(out: &mut Vec<u8>, estimate: &TokenUsage) {
    let numbers = numbers_of(estimate);
    let known = numbers.iter().rev().fold(0, |bits, number| bits << 1 | u8::from(number.is_some()));
    out.push(known);
    numbers.iter().flatten().for_each(|&number| put_number(out, number));
}

fn read_estimate(reader: &mut Reader<'_>) -> Option<TokenUsage> {
    let known = reader.byte()?;
    let mut numbers = [None; 5];
    if known >> numbers.len() != 0 {
        return None;
    }
    for (place, number) in numbers.iter_mut().enumerate() {
        if known >> place & 1 == 1 {
            *number = Some(reader.number().filter(|&number| number <= MAX_COST)?);
        }
    }
    let [input, cached_input, cache_write, output, total] = numbers;
    Some(TokenUsage { input, cached_input, cache_write, output, total })
}

fn put_unit(out: &mut Vec<u8>, unit: &Unit) -> Option<()> {
    let name = unit.as_str();
    if let Some(index) = Unit::BUILT_IN.iter().position(|built_in| *built_in == name) {
        out.push(u8::try_from(index).ok()?);
        return Some(());
    }
    let len = u8::try_from(name.len()).ok().filter(|len| len & NAMED_UNIT == 0)?;
    out.push(NAMED_UNIT | len);
    out.extend_from_slice(name.as_bytes());
    Some(())
}

fn read_unit(reader: &mut Reader<'_>) -> Option<Unit> {
    let head = reader.byte()?;
    if head & NAMED_UNIT == 0 {
        return Unit::BUILT_IN.get(usize::from(head)).map(|name| Unit::new(name));
    }
    let name = reader.slice(usize::from(head & !NAMED_UNIT))?;
    str::from_utf8(name).ok().map(Unit::new)
}

/// Appends the number of subjects, a bit for each that is a part of another, and the digests.
fn put_subjects(out: &mut Vec<u8>, subjects: &[Subject]) -> Option<()> {
    let parts = subjects.iter().rev();
    let parts = parts.fold(0, |bits, subject| bits << 1 | u8::from(subject.digests().1.is_some()));
    out.extend_from_slice(&[u8::try_from(subjects.len()).ok()?, parts]);
    for (tag, part) in subjects.iter().map(Subject::digests) {
        out.extend_from_slice(&tag);
        out.extend(part.iter().flatten());
    }
    Some(())
}

fn read_subjects(reader: &mut Reader<'_>) -> Option<SmallVec<[Subject; 4]>> {
    let [count, parts] = reader.array()?;
    let count = usize::from(count);
    if count > MAX_RESERVED_SUBJECTS || u32::from(parts) >> count != 0 {
        return None;
    }
    let read = |place| {
        let tag = reader.array()?;
        let part = if parts >> place & 1 == 1 { Some(reader.array()?) } else { None };
        Some(Subject::from_digests(tag, part))
    };
    (0..count).map(read).collect()
}
