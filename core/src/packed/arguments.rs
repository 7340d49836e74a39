//! The arguments of a call: limits, checks and refunds, in the bytes that `lua/limits.lua` and
//! `lua/check.lua` define. Everything is checked before anything is judged.
//!
//! Packing them is the node's.

use std::ops::Range;

use super::charge::{PackedCharge, PackedLimit, Sizes};
use crate::algorithm::{ChargeTime, Concurrency, RowKind, Throttle, WindowStart, Windows};
use crate::limit::{MAX_CHARGES, RowId};
use crate::time::{MAX_EXACT, Micros};

/// The code before a check of which nothing is written.
const DRY_RUN: u8 = 253;

/// The reason why a call was not judged; nothing was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedCall {
    /// There are too few or too many arguments.
    #[error("behind the keys come limits, checks and perhaps refunds")]
    Arguments,
    /// An argument ends within one of its parts.
    #[error("an argument is cut short")]
    CutShort,
    /// A limit that no node sends.
    #[error("a limit has sizes or an id that no limit has")]
    Limit,
    /// A charge whose key, limit or amount the call does not have.
    #[error("a charge names a key or limit that the call does not have, or has no whole amount")]
    Charge,
    /// An operation on a reservation.
    #[error("only the script opens and settles reservations")]
    Operation,
}

/// Reads an argument from its beginning to its end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], MalformedCall> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(MalformedCall::CutShort)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, MalformedCall> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn index(&mut self) -> Result<u16, MalformedCall> {
        self.take().map(u16::from_le_bytes)
    }

    /// A whole number from 0 to 2^53 - 1, packed as a double; the error is `why` for any other.
    fn whole(&mut self, why: MalformedCall) -> Result<u64, MalformedCall> {
        let number = f64::from_le_bytes(self.take()?);
        to_whole(number).ok_or(why)
    }

    fn window(&mut self) -> Result<WindowStart, MalformedCall> {
        let mut bytes = [0; 8];
        bytes[..5].copy_from_slice(&self.take::<5>()?);
        Ok(WindowStart::new(u64::from_le_bytes(bytes)))
    }
}

/// The number, if it is whole and from 0 to 2^53 - 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "compared with the double again"
)]
fn to_whole(number: f64) -> Option<u64> {
    let whole = number as u64;
    let is_exact = (whole as f64).to_bits() == number.to_bits();
    (whole <= MAX_EXACT && is_exact).then_some(whole)
}

/// The limits of a call.
pub(super) fn parse_limits(argument: &[u8]) -> Result<Vec<PackedLimit>, MalformedCall> {
    let mut reader = Reader(argument);
    // A bucket, the usual limit, has 32 bytes.
    let mut limits = Vec::with_capacity(argument.len() / 32);
    while !reader.is_at_end() {
        limits.push(parse_limit(&mut reader)?);
    }
    Ok(limits)
}

fn parse_limit(reader: &mut Reader<'_>) -> Result<PackedLimit, MalformedCall> {
    let why = MalformedCall::Limit;
    let flags = reader.byte()?;
    let (id, len) = RowId::from_head(reader.take()?);
    if len != 0 || id.kind().get() != flags >> 4 {
        return Err(why);
    }
    let mut windows = None;
    let sizes = match id.kind() {
        RowKind::TOKEN_BUCKET => {
            let [drain, per, size] = [reader.whole(why)?, reader.whole(why)?, reader.whole(why)?];
            Sizes::Bucket(Throttle::from_parts(drain, per, size).ok_or(why)?)
        }
        RowKind::CALENDAR_QUOTA => {
            let size = reader.whole(why)?;
            let mut bounds = [Micros::ZERO; 4];
            for bound in &mut bounds {
                *bound = Micros::new(reader.whole(why)?);
            }
            let starts = [reader.window()?, reader.window()?, reader.window()?];
            windows = Some(Windows { starts, bounds });
            Sizes::Quota(size)
        }
        RowKind::CONCURRENCY => {
            let slots = reader.whole(why)?;
            Sizes::Slots(Concurrency::of_slots(slots).ok_or(why)?)
        }
        _ => return Err(why),
    };
    Ok(PackedLimit { id, flags, sizes, windows })
}

/// A charge of a check or a refund.
fn parse_charge<'l>(
    reader: &mut Reader<'_>,
    limits: &'l [PackedLimit],
    keys: usize,
) -> Result<PackedCharge<'l>, MalformedCall> {
    let why = MalformedCall::Charge;
    let (key, limit) = (reader.index()?, reader.index()?);
    let amount = f64::from_le_bytes(reader.take()?);
    let limit = usize::from(limit).checked_sub(1).and_then(|index| limits.get(index)).ok_or(why)?;
    let key = usize::from(key).checked_sub(1).filter(|key| *key < keys).ok_or(why)?;
    let is_forced = amount < 0.0;
    Ok(PackedCharge { key, limit, amount: to_whole(amount.abs()).ok_or(why)?, is_forced })
}

/// One check of a call.
pub(super) struct PackedCheck<'c> {
    /// Its charges.
    pub(super) charges: &'c [PackedCharge<'c>],
    /// True if nothing of it is written.
    pub(super) is_dry: bool,
}

/// The checks of a call.
pub(super) struct PackedChecks<'l> {
    /// The charges of all checks.
    charges: Vec<PackedCharge<'l>>,
    /// The place of each check's charges, and true if it is a dry run.
    checks: Vec<(Range<usize>, bool)>,
}

impl<'l> PackedChecks<'l> {
    pub(super) fn parse(
        argument: &[u8],
        limits: &'l [PackedLimit],
        keys: usize,
    ) -> Result<Self, MalformedCall> {
        let mut reader = Reader(argument);
        // The usual check has one charge, in 13 bytes.
        let most = argument.len() / 13 + 1;
        let mut parsed =
            Self { charges: Vec::with_capacity(most), checks: Vec::with_capacity(most) };
        while !reader.is_at_end() {
            let mut count = reader.byte()?;
            let is_dry = count == DRY_RUN;
            if is_dry {
                count = reader.byte()?;
            }
            if usize::from(count) > MAX_CHARGES {
                return Err(MalformedCall::Operation);
            }
            let start = parsed.charges.len();
            for _ in 0..count {
                parsed.charges.push(parse_charge(&mut reader, limits, keys)?);
            }
            parsed.checks.push((start..parsed.charges.len(), is_dry));
        }
        Ok(parsed)
    }

    /// The number of charges of all checks.
    pub(super) fn charge_count(&self) -> usize {
        self.charges.len()
    }

    /// The checks, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = PackedCheck<'_>> {
        self.checks.iter().map(|(place, is_dry)| PackedCheck {
            charges: self.charges.get(place.clone()).unwrap_or_default(),
            is_dry: *is_dry,
        })
    }
}

/// The refunds of a call, each with the time of its charge.
pub(super) fn parse_refunds<'l>(
    argument: &[u8],
    limits: &'l [PackedLimit],
    keys: usize,
) -> Result<Vec<(PackedCharge<'l>, ChargeTime)>, MalformedCall> {
    let mut reader = Reader(argument);
    let mut refunds = Vec::new();
    while !reader.is_at_end() {
        let charge = parse_charge(&mut reader, limits, keys)?;
        let time = reader.whole(MalformedCall::Charge)?;
        // Each algorithm reads the one that it knows.
        let charged = ChargeTime { at: Micros::new(time), window: WindowStart::new(time) };
        refunds.push((charge, charged));
    }
    Ok(refunds)
}
