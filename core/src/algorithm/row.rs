//! A counter as it is stored: a kind, and a body that only the kind's algorithm reads.
//!
//! The bytes of a body are the same in every store and in `lua/`. The string or table that holds a
//! row is the store's concern.

use std::fmt;

use super::ROW_KINDS;
use crate::time::Micros;

/// The longest body of a row, in bytes.
const MAX_BODY: usize = 28;

/// The kind of a row. `lua/limits.lua` finds a counter's algorithm by its kind. A number is
/// never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKind(u8);

impl RowKind {
    /// The largest number of a kind: it has five bits.
    pub const MAX: u8 = 31;

    /// A token bucket.
    pub const TOKEN_BUCKET: Self = Self(1);
    /// A calendar quota.
    pub const CALENDAR_QUOTA: Self = Self(2);
    /// A day of usage that is over; beside the counters, not one of them.
    pub const USAGE_DAY: Self = Self(3);
    /// The units granted in a window that is not over; beside the counters, not one of them.
    pub const GRANTED: Self = Self(4);
    /// The numbers of a subject's reservations; beside the counters, not one of them.
    pub const RESERVATION_NUMBERS: Self = Self(7);
    /// The slots of a concurrency limit.
    pub const CONCURRENCY: Self = Self(8);

    /// The distance from a counter's kind to the kind of its annex: 5 for a token bucket, 6 for a
    /// calendar quota, 12 for slots.
    const ANNEX: u8 = 4;

    /// The kind of this number.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The kind of the annex of a counter of this kind.
    #[must_use]
    pub const fn annex(self) -> Self {
        Self(self.0 + Self::ANNEX)
    }

    /// True if it is the kind of the annex of a counter that this release knows.
    #[must_use]
    pub fn is_annex(self) -> bool {
        ROW_KINDS.iter().any(|(kind, _)| kind.annex() == self)
    }

    /// True if it is a counter's kind that this release knows.
    #[must_use]
    pub fn is_known_counter(self) -> bool {
        ROW_KINDS.iter().any(|(kind, _)| *kind == self)
    }

    /// True if its counter counts slots.
    #[must_use]
    pub const fn counts_slots(self) -> bool {
        matches!(self, Self::CONCURRENCY)
    }

    /// The length of the body of every row of this kind, in bytes; `None` if it varies or the kind
    /// is unknown.
    #[must_use]
    pub const fn body_len(self) -> Option<usize> {
        match self {
            Self::TOKEN_BUCKET => Some(28),
            Self::CALENDAR_QUOTA => Some(12),
            Self::CONCURRENCY => Some(21),
            Self::USAGE_DAY => Some(16),
            Self::GRANTED => Some(9),
            Self::RESERVATION_NUMBERS => Some(19),
            _ => None,
        }
    }

    /// The number of the kind; never 0.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// One counter as stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    kind: RowKind,
    len: u8,
    body: [u8; MAX_BODY],
}

impl Row {
    /// A row with this body; `None` if the body is longer than any that this release knows.
    #[must_use]
    pub fn new(kind: RowKind, body: &[u8]) -> Option<Self> {
        let mut row = Self { kind, len: u8::try_from(body.len()).ok()?, body: [0; MAX_BODY] };
        row.body.get_mut(..body.len())?.copy_from_slice(body);
        Some(row)
    }

    /// A row without a body.
    pub(super) fn empty(kind: RowKind) -> Self {
        Self { kind, len: 0, body: [0; MAX_BODY] }
    }

    /// The row with one more number of `N` bytes behind its body, little-endian. The length is a
    /// constant: copies of other lengths are calls.
    #[inline]
    pub(super) fn with<const N: usize>(mut self, number: u64) -> Self {
        let at = usize::from(self.len);
        debug_assert!(at + N <= MAX_BODY, "a body of more than {MAX_BODY} bytes");
        if let Some(place) = self.body.get_mut(at..at + N) {
            place.copy_from_slice(&number.to_le_bytes()[..N]);
            self.len = u8::try_from(at + N).unwrap_or(u8::MAX);
        }
        self
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> RowKind {
        self.kind
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.get(..self.len.into()).unwrap_or_default()
    }

    /// The time from which the row means the same as a missing one, if the row says so itself.
    #[must_use]
    pub fn expiry(&self) -> Option<Micros> {
        ROW_KINDS.iter().find(|(kind, _)| *kind == self.kind)?.1(self)
    }

    /// The number in `N` bytes at `at` of the body, zero beyond its end.
    #[must_use]
    pub fn number<const N: usize>(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        if let Some(part) = self.body.get(at..at + N) {
            bytes[..N].copy_from_slice(part);
        }
        u64::from_le_bytes(bytes)
    }

    /// The signed number in `N` bytes at `at` of the body.
    #[must_use]
    pub fn signed<const N: usize>(&self, at: usize) -> i64 {
        let unused_bits = 64 - 8 * N;
        (self.number::<N>(at) << unused_bits).cast_signed() >> unused_bits
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({}, {:02x?})", self.kind.0, self.body())
    }
}
