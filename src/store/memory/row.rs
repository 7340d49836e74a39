//! Rows as they lie in the tables, as small as possible: millions of them are the service's memory.

use crate::algorithm::{Row, RowKind};
use crate::limit::{Charge, CounterId, ReservationName, RowId, Subject};
use crate::time::Micros;

/// The key of a counter: the subject's 128 bits with the 48 of its row folded in.
///
/// Two counters share a key only if two subjects' digests differ in exactly the bits in which two
/// row ids do: as unlikely as two equal digests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RowKey([u8; 16]);

impl RowKey {
    pub(super) fn from_charge(charge: &Charge) -> Self {
        Self::from(charge.counter())
    }

    pub(super) fn new(subject: Subject, row: RowId) -> Self {
        Self::from(CounterId::new(subject, row))
    }

    pub(super) fn from_reservation(name: ReservationName) -> Self {
        Self(name.to_bytes())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&bytes[..16]);
        Self(key)
    }

    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// 64 bits that depend on all 128 and on a secret seed.
    pub(super) fn mixed(self, seed: u64) -> u64 {
        let [low, high] = [&self.0[..8], &self.0[8..]]
            .map(|half| half.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)));
        let product = u128::from(low ^ seed) * u128::from(high ^ seed.rotate_left(32) | 1);
        #[expect(clippy::cast_possible_truncation, reason = "both halves of the product, folded")]
        let folded = product as u64 ^ (product >> 64) as u64;
        folded
    }
}

impl From<CounterId> for RowKey {
    fn from(counter: CounterId) -> Self {
        let subject = u128::from_le_bytes(counter.subject());
        Self((subject ^ u128::from(counter.row().get())).to_le_bytes())
    }
}

/// Bytes of a packed row.
pub(super) const PACKED_ROW: usize = 30;
/// Bytes of a body, at most.
const BODY: usize = PACKED_ROW - 2;
/// Bytes of an expiry, in whole seconds.
const EXPIRY: usize = 5;

/// A row in 30 bytes: kind, length of the body, body. A row that does not say itself when it
/// expires has its expiry in the last five bytes.
#[derive(Clone, Copy)]
pub(super) struct PackedRow([u8; PACKED_ROW]);

impl PackedRow {
    pub(super) fn from_bytes(bytes: [u8; PACKED_ROW]) -> Self {
        Self(bytes)
    }

    pub(super) fn to_bytes(self) -> [u8; PACKED_ROW] {
        self.0
    }

    /// Packs a row; from `until` on a missing row means the same.
    pub(super) fn new(row: &Row, until: Micros) -> Self {
        let mut packed = [0; PACKED_ROW];
        let body = row.body();
        packed[0] = row.kind().get();
        packed[1] = u8::try_from(body.len()).unwrap_or(u8::MAX);
        packed[2..2 + body.len()].copy_from_slice(body);
        if body.len() + EXPIRY <= BODY {
            let expiry = until.as_secs_ceil().to_le_bytes();
            packed[PACKED_ROW - EXPIRY..].copy_from_slice(&expiry[..EXPIRY]);
        } else {
            debug_assert!(row.expiry().is_some(), "{row:?} has no room for its expiry");
        }
        Self(packed)
    }

    /// False in a row that a later release has written.
    pub(super) fn is_known(&self) -> bool {
        RowKind::new(self.0[0]).is_known_counter()
    }

    pub(super) fn unpack(&self) -> Option<Row> {
        let body = self.0[2..].get(..usize::from(self.0[1]))?;
        Row::new(RowKind::new(self.0[0]), body)
    }

    /// True if a missing row would mean the same.
    pub(super) fn is_expired(&self, now: Micros) -> bool {
        let stored = || {
            let mut seconds = [0; 8];
            seconds[..EXPIRY].copy_from_slice(&self.0[PACKED_ROW - EXPIRY..]);
            Micros::from_secs(u64::from_le_bytes(seconds))
        };
        self.unpack().is_some_and(|row| row.expiry().unwrap_or_else(stored) <= now)
    }
}
