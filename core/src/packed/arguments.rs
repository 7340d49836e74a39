//! The arguments of a call: limits, checks and refunds, in the bytes that `lua/limits.lua` and
//! `lua/check.lua` define. Everything is checked before anything is judged.
//!
//! Operations on reservations are parsed in `operations`. Packing all of them is the node's.

use std::ops::Range;

use super::charge::{PackedCharge, PackedLimit, Sizes};
use super::operations::Operation;
use crate::algorithm::{ChargeTime, Concurrency, RowKind, Throttle, WindowStart, Windows};
use crate::judge::OfferedWindows;
use crate::limit::{MAX_CHARGES, RowId};
use crate::time::{MAX_EXACT, Micros};

/// The code before a check of which nothing is written.
const DRY_RUN: u8 = 253;

/// The reason why a call was not judged; nothing was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedCall {
    /// There are too few or too many arguments.
    #[error("behind the keys come limits, checks, perhaps refunds and the number of subjects")]
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
    /// An operation on a reservation that no node sends.
    #[error("an operation on a reservation is none that this module knows")]
    Operation,
}

/// Reads an argument from its beginning to its end.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// A reader of the next `len` bytes.
    pub(super) fn part(&mut self, len: usize) -> Result<Self, MalformedCall> {
        self.slice(len).map(Self)
    }

    pub(super) fn slice(&mut self, len: usize) -> Result<&'a [u8], MalformedCall> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(MalformedCall::CutShort)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], MalformedCall> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(MalformedCall::CutShort)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, MalformedCall> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn index(&mut self) -> Result<u16, MalformedCall> {
        self.take().map(u16::from_le_bytes)
    }

    /// A whole number from 0 to 2^53 - 1, packed as a double; the error is `why` for any other.
    pub(super) fn whole(&mut self, why: MalformedCall) -> Result<u64, MalformedCall> {
        let number = f64::from_le_bytes(self.take()?);
        to_whole(number).ok_or(why)
    }

    /// A whole number between -2^53 and 2^53 without its sign, and true if it is below 0.
    pub(super) fn signed(&mut self) -> Result<(u64, bool), MalformedCall> {
        let number = f64::from_le_bytes(self.take()?);
        let whole = to_whole(number.abs()).ok_or(MalformedCall::Charge)?;
        Ok((whole, number < 0.0))
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

/// One check of a call.
pub(super) struct PackedCheck<'c> {
    /// Its charges; none of an adjustment.
    pub(super) charges: &'c [PackedCharge<'c>],
    /// True if nothing of it is written.
    pub(super) is_dry: bool,
    /// The operation that it is part of.
    pub(super) operation: Option<&'c Operation<'c>>,
}

impl PackedCheck<'_> {
    /// The windows that the node offers for each charge.
    pub(super) fn offered(&self) -> OfferedWindows {
        self.charges.iter().map(|charge| charge.limit.windows).collect()
    }
}

/// The checks and operations of a call.
pub(super) struct PackedChecks<'c> {
    /// The charges of all checks.
    charges: Vec<PackedCharge<'c>>,
    checks: Vec<ParsedCheck<'c>>,
    /// The number of charges that are adjusted.
    adjusted: usize,
}

struct ParsedCheck<'c> {
    /// The place of its charges.
    charges: Range<usize>,
    is_dry: bool,
    /// Most checks have none.
    operation: Option<Box<Operation<'c>>>,
}

impl PackedChecks<'_> {
    /// The number of charges of all checks and operations.
    pub(super) fn charge_count(&self) -> usize {
        self.charges.len() + self.adjusted
    }

    /// The checks, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = PackedCheck<'_>> {
        self.checks.iter().map(|check| PackedCheck {
            charges: self.charges.get(check.charges.clone()).unwrap_or_default(),
            is_dry: check.is_dry,
            operation: check.operation.as_deref(),
        })
    }
}

/// The parts of a call to which its checks and refunds refer by index.
pub(super) struct CallArguments<'c> {
    /// The limits.
    pub(super) limits: &'c [PackedLimit],
    /// The number of subjects.
    pub(super) subjects: usize,
    /// The number of reservations.
    pub(super) reservations: usize,
}

impl<'c> CallArguments<'c> {
    /// The checks and operations of a call.
    pub(super) fn parse_checks(
        &self,
        argument: &'c [u8],
    ) -> Result<PackedChecks<'c>, MalformedCall> {
        let mut reader = Reader(argument);
        // The usual check has one charge, in 13 bytes.
        let most = argument.len() / 13 + 1;
        let (charges, checks) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let mut parsed = PackedChecks { charges, checks, adjusted: 0 };
        while !reader.is_at_end() {
            let mut code = reader.byte()?;
            let is_dry = code == DRY_RUN;
            if is_dry {
                code = reader.byte()?;
            }
            let start = parsed.charges.len();
            let mut operation = None;
            if usize::from(code) > MAX_CHARGES {
                let parsed = self.parse_operation(code, &mut reader, &mut parsed.charges)?;
                operation = Some(Box::new(parsed));
            } else {
                self.parse_charges(code, &mut reader, &mut parsed.charges)?;
            }
            if let Some(Operation::Adjust(adjustment)) = operation.as_deref() {
                parsed.adjusted += adjustment.charges.len();
            }
            let charges = start..parsed.charges.len();
            parsed.checks.push(ParsedCheck { charges, is_dry, operation });
        }
        Ok(parsed)
    }

    /// Adds the charges of a check.
    pub(super) fn parse_charges(
        &self,
        count: u8,
        reader: &mut Reader<'_>,
        charges: &mut Vec<PackedCharge<'c>>,
    ) -> Result<(), MalformedCall> {
        for _ in 0..count {
            charges.push(self.parse_charge(reader)?);
        }
        Ok(())
    }

    /// A charge of a check or a refund.
    fn parse_charge(&self, reader: &mut Reader<'_>) -> Result<PackedCharge<'c>, MalformedCall> {
        let (key, limit) = (reader.index()?, reader.index()?);
        let (amount, is_forced) = reader.signed()?;
        let charge = self.look(key, limit)?;
        Ok(PackedCharge { amount, is_forced, ..charge })
    }

    /// A charge of nothing to the limit and the subject of these indices, from 1.
    pub(super) fn look(&self, key: u16, limit: u16) -> Result<PackedCharge<'c>, MalformedCall> {
        let why = MalformedCall::Charge;
        let limit = usize::from(limit).checked_sub(1).and_then(|index| self.limits.get(index));
        let key = usize::from(key).checked_sub(1).filter(|key| *key < self.subjects);
        let (limit, key) = (limit.ok_or(why)?, key.ok_or(why)?);
        Ok(PackedCharge { key, limit, amount: 0, is_forced: false })
    }

    /// The refunds of a call, each with the time of its charge.
    pub(super) fn parse_refunds(
        &self,
        argument: &[u8],
    ) -> Result<Vec<(PackedCharge<'c>, ChargeTime)>, MalformedCall> {
        let mut reader = Reader(argument);
        let mut refunds = Vec::new();
        while !reader.is_at_end() {
            let charge = self.parse_charge(&mut reader)?;
            let time = reader.whole(MalformedCall::Charge)?;
            // Each algorithm reads the one that it knows.
            let charged = ChargeTime { at: Micros::new(time), window: WindowStart::new(time) };
            refunds.push((charge, charged));
        }
        Ok(refunds)
    }
}
