//! Rows as small as they go: millions of them are the memory of the service.

use crate::algorithm::Row;
use crate::algorithm::calendar_quota::Count;
use crate::algorithm::token_bucket::Bucket;
use crate::limit::{Charge, Day};
use crate::time::Micros;

/// Which counter: the subject's 128 bits, with the limit's 40 folded in.
///
/// Two counters share a key only where two subjects' digests differ in exactly the bits in which
/// two limits' ids do: as unlikely as that two digests are equal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RowKey([u8; 16]);

impl RowKey {
    pub(super) fn of(charge: &Charge) -> Self {
        let subject = u128::from_le_bytes(charge.subject.digest());
        Self((subject ^ u128::from(charge.limit.row().get())).to_le_bytes())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&bytes[..16]);
        Self(key)
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

/// A row in 20 bytes: level or use (7), time in µs or window (7), `per` or the end of the window in
/// seconds (5), and by which power of two of µs a bucket drains, or that it is a quota (1).
#[derive(Clone, Copy)]
pub(super) struct PackedRow([u8; 20]);

const QUOTA: u8 = u8::MAX;

impl PackedRow {
    pub(super) fn new(row: Row, until: Micros) -> Self {
        match row {
            Row::Bucket(bucket) => {
                let lasting = until.since(bucket.at).get();
                let exponent = u8::try_from(u64::BITS - lasting.leading_zeros()).unwrap_or(63);
                Self::pack(bucket.level, bucket.at.get(), bucket.per, exponent)
            }
            Row::Count(count) => {
                Self::pack(count.used, u64::from(count.window.get()), until.as_secs_ceil(), QUOTA)
            }
        }
    }

    fn pack(first: u64, second: u64, third: u64, last: u8) -> Self {
        let mut bytes = [0; 20];
        bytes[..7].copy_from_slice(&first.to_le_bytes()[..7]);
        bytes[7..14].copy_from_slice(&second.to_le_bytes()[..7]);
        bytes[14..19].copy_from_slice(&third.to_le_bytes()[..5]);
        bytes[19] = last;
        Self(bytes)
    }

    fn numbers(&self) -> (u64, u64, u64, u8) {
        let number = |bytes: &[u8]| {
            bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
        };
        (number(&self.0[..7]), number(&self.0[7..14]), number(&self.0[14..19]), self.0[19])
    }

    pub(super) fn unpack(&self) -> Row {
        let (first, second, third, last) = self.numbers();
        if last == QUOTA {
            let window = Day::new(u32::try_from(second).unwrap_or(u32::MAX));
            Row::Count(Count { used: first, window })
        } else {
            Row::Bucket(Bucket { level: first, at: Micros::new(second), per: third })
        }
    }

    /// Whether the row says nothing any more: an absent one would be the same.
    pub(super) fn is_spent(&self, now: Micros) -> bool {
        match self.numbers() {
            (_, _, end, QUOTA) => Micros::from_secs(end) <= now,
            (_, at, _, exponent) => Micros::new(at) + Micros::new(1 << exponent.min(62)) <= now,
        }
    }
}
