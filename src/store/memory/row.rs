//! Rows as small as they go: millions of them are the memory of the service.

use crate::algorithm::Row;
use crate::algorithm::calendar_quota::Count;
use crate::algorithm::token_bucket::Bucket;
use crate::limit::{Charge, RowId, Subject, WindowStart};
use crate::time::Micros;

/// Which counter: the subject's 128 bits, with the limit's 40 folded in.
///
/// Two counters share a key only where two subjects' digests differ in exactly the bits in which
/// two limits' ids do: as unlikely as that two digests are equal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RowKey([u8; 16]);

impl RowKey {
    pub(super) fn from_charge(charge: &Charge) -> Self {
        Self::new(charge.subject, charge.limit.row())
    }

    pub(super) fn new(subject: Subject, row: RowId) -> Self {
        let subject = u128::from_le_bytes(subject.digest());
        Self((subject ^ u128::from(row.get())).to_le_bytes())
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

    /// 64 bits that depend on all 128 and on a seed that nobody knows.
    pub(super) fn mixed(self, seed: u64) -> u64 {
        let [low, high] = [&self.0[..8], &self.0[8..]]
            .map(|half| half.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)));
        let product = u128::from(low ^ seed) * u128::from(high ^ seed.rotate_left(32) | 1);
        #[expect(clippy::cast_possible_truncation, reason = "both halves of the product, folded")]
        let folded = product as u64 ^ (product >> 64) as u64;
        folded
    }
}

/// A row in 28 bytes: level or use (7, the use with a sign), time in µs or window (7), `per` or the end of the window in
/// seconds (5), what drains per µs, or 0 for a quota (5), since when it does (4).
#[derive(Clone, Copy)]
pub(super) struct PackedRow([u8; 28]);

const FIELD_SIZES: [usize; 5] = [7, 7, 5, 5, 4];

impl PackedRow {
    pub(super) fn from_bytes(bytes: [u8; 28]) -> Self {
        Self(bytes)
    }

    pub(super) fn to_bytes(self) -> [u8; 28] {
        self.0
    }

    pub(super) fn new(row: Row, until: Micros) -> Self {
        match row {
            Row::Bucket(Bucket { level, updated_at, per, drain, rate_since }) => {
                Self::pack([level, updated_at.get(), per, drain, rate_since])
            }
            Row::Count(Count { used, window }) => {
                Self::pack([used.cast_unsigned(), window.get(), until.as_secs_ceil(), 0, 0])
            }
        }
    }

    fn pack(numbers: [u64; 5]) -> Self {
        let mut bytes = [0; 28];
        let mut at = 0;
        for (number, size) in numbers.iter().zip(FIELD_SIZES) {
            bytes[at..at + size].copy_from_slice(&number.to_le_bytes()[..size]);
            at += size;
        }
        Self(bytes)
    }

    fn numbers(&self) -> [u64; 5] {
        let mut at = 0;
        FIELD_SIZES.map(|size| {
            let bytes = &self.0[at..at + size];
            at += size;
            bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
        })
    }

    pub(super) fn unpack(&self) -> Row {
        match self.numbers() {
            [used, window, _, 0, _] => {
                // Its 56 bits, with the highest of them for all above.
                let used = (used << 8).cast_signed() >> 8;
                Row::Count(Count { used, window: WindowStart::new(window) })
            }
            [level, updated_at, per, drain, rate_since] => Row::Bucket(Bucket {
                level,
                updated_at: Micros::new(updated_at),
                per,
                drain,
                rate_since,
            }),
        }
    }

    /// Whether the row says nothing any more: an absent one would be the same.
    pub(super) fn is_expired(&self, now: Micros) -> bool {
        match self.numbers() {
            [_, _, end, 0, _] => Micros::from_secs(end) <= now,
            [level, updated_at, _, drain, _] => {
                level <= now.since(Micros::new(updated_at)).get().saturating_mul(drain)
            }
        }
    }
}
