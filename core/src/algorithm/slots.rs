//! The slots of a concurrency limit as they are stored: the counter's own time, and the list of
//! slots. Twin of the part of `lua/concurrency.lua` that reads and packs them; change them
//! together.
//!
//! Taking and freeing slots by the changes of reservations is `concurrency`'s.

use smallvec::SmallVec;

use super::reserving::number_in;
use super::{Row, RowKind, StoredCounter, Written};
use crate::time::Micros;

/// The longest time of a slot, and of a reservation.
pub(super) const MAX_TTL: Micros = Micros::from_secs(3_600);

/// Bytes of a slot: its number and its end.
const SLOT: usize = 13;

/// The most bytes of slots in one row of a list.
const FULL_ROW: usize = 19 * SLOT;

/// The row: the counter's own time, which advances with the clock and never runs back.
#[derive(Clone, Copy)]
pub(super) struct OwnTime {
    pub(super) own: Micros,
    /// The clock at which it was that.
    at: Micros,
    /// A time before which no slot ends.
    earliest: Micros,
}

impl OwnTime {
    fn from_row(row: &Row) -> Option<Self> {
        (row.kind() == RowKind::CONCURRENCY).then(|| Self {
            own: Micros::new(row.number::<7>(0)),
            at: Micros::new(row.number::<7>(7)),
            earliest: Micros::new(row.number::<7>(14)),
        })
    }

    /// The own time at `now`; that of a counter without a row begins with the clock.
    pub(super) fn at(row: Option<&Row>, now: Micros) -> Self {
        row.and_then(Self::from_row).map_or(
            Self { own: now, at: now, earliest: Micros::MAX },
            |before| Self { own: before.own + now.since(before.at), at: now, ..before },
        )
    }

    /// The row that notes the time.
    pub(super) fn to_written(self) -> Written {
        let row = Row::empty(RowKind::CONCURRENCY);
        let row = row.with::<7>(self.own.get()).with::<7>(self.at.get());
        let row = row.with::<7>(self.earliest.get());
        (row, self.at + MAX_TTL)
    }
}

/// True if the clock has stepped back behind the row.
pub(super) fn is_ahead(row: &Row, now: Micros) -> bool {
    OwnTime::from_row(row).is_some_and(|time| time.at > now)
}

/// The time from which the row means the same as a missing one: no slot of its list is left.
pub(super) fn expiry(row: &Row) -> Option<Micros> {
    OwnTime::from_row(row).map(|time| time.at + MAX_TTL)
}

/// A slot that a reservation holds.
#[derive(Clone, Copy)]
struct Slot {
    /// The reservation's number.
    number: u64,
    /// In own time.
    ends: Micros,
}

/// The slots of a counter that have not ended.
pub(super) struct LiveSlots {
    time: OwnTime,
    /// In the order in which they were taken.
    slots: Vec<Slot>,
    /// The number of slots that have ended and are still in the list.
    pub(super) expired: u64,
}

impl LiveSlots {
    /// The slots of a stored counter at `now`.
    pub(super) fn new(counter: StoredCounter<'_>, now: Micros) -> Self {
        let time = OwnTime::at(counter.0, now);
        let mut live = Self { time, slots: slots(counter).collect(), expired: 0 };
        if time.earliest <= time.own {
            let all = live.slots.len();
            live.slots.retain(|slot| slot.ends > time.own);
            live.expired = (all - live.slots.len()) as u64;
            let earliest = live.slots.iter().map(|slot| slot.ends).min();
            live.time.earliest = earliest.unwrap_or(Micros::MAX);
        }
        live
    }

    /// The number of slots.
    pub(super) fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Takes a slot for `ttl`, the last one.
    pub(super) fn take(&mut self, number: u64, ttl: Micros) {
        let ends = self.end_after(ttl);
        self.slots.push(Slot { number, ends });
    }

    /// Renews the slot that the reservation holds, or takes one. Returns the number of slots that
    /// were taken before it.
    pub(super) fn hold(&mut self, number: u64, ttl: Micros) -> u64 {
        let Some(place) = self.place_of(number) else {
            self.take(number, ttl);
            return self.len() - 1;
        };
        self.slots[place].ends = self.end_after(ttl);
        place as u64
    }

    /// Frees the slot that the reservation holds, if it holds one.
    pub(super) fn free(&mut self, number: u64) {
        if let Some(place) = self.place_of(number) {
            self.slots.remove(place);
        }
    }

    /// The row and the annex with these slots.
    pub(super) fn pack(&self) -> (Written, Vec<u8>) {
        let mut annex = Vec::with_capacity(SLOT * self.slots.len());
        for Slot { number, ends } in &self.slots {
            annex.extend_from_slice(&number.to_le_bytes()[..6]);
            annex.extend_from_slice(&ends.get().to_le_bytes()[..7]);
        }
        (self.time.to_written(), annex)
    }

    fn place_of(&self, number: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.number == number)
    }

    fn end_after(&mut self, ttl: Micros) -> Micros {
        let ends = self.time.own + ttl.min(MAX_TTL);
        self.time.earliest = self.time.earliest.min(ends);
        ends
    }
}

/// The lengths of the rows in which `list` is stored, of a counter that is written as `written` and
/// whose list stood in the rows `before`.
///
/// A slot stays in its row, since a list that changes at one place is cheap to write. A row without
/// slots is removed. A slot that is taken stands in the last row if that has room.
pub(crate) fn row_lengths<'a>(
    before: impl Iterator<Item = &'a [u8]>,
    written: &Row,
    list: &[u8],
) -> SmallVec<[usize; 4]> {
    let own = OwnTime::from_row(written).map_or(Micros::ZERO, |time| time.own);
    let mut slots = slots_of(list).peekable();
    let mut lengths = SmallVec::new();
    for row in before {
        // A slot that had ended and was taken again is the last one, in whatever row it was.
        let stays = |old: &Slot, new: &Slot| {
            old.number == new.number && (old.ends > own || old.ends == new.ends)
        };
        let len: usize = slots_of(row)
            .filter_map(|old| slots.next_if(|new| stays(&old, new)))
            .map(|_| SLOT)
            .sum();
        if len > 0 {
            lengths.push(len);
        }
    }
    for _ in slots {
        match lengths.last_mut().filter(|len| **len < FULL_ROW) {
            Some(len) => *len += SLOT,
            None => lengths.push(SLOT),
        }
    }
    lengths
}

/// The number of slots of a stored counter that have not ended at `now`, and of those that have.
pub(super) fn count_slots(counter: StoredCounter<'_>, now: Micros) -> (u64, u64) {
    let (time, all) = (OwnTime::at(counter.0, now), slots(counter).len() as u64);
    if time.earliest > time.own {
        return (all, 0);
    }
    let live = slots(counter).filter(|slot| slot.ends > time.own).count() as u64;
    (live, all - live)
}

/// The slots of a stored counter. Without its row a list means nothing.
fn slots((row, annex): StoredCounter<'_>) -> impl ExactSizeIterator<Item = Slot> {
    slots_of(if row.is_some() { annex } else { &[] })
}

fn slots_of(list: &[u8]) -> impl ExactSizeIterator<Item = Slot> {
    list.chunks_exact(SLOT).map(|slot| Slot {
        number: number_in(&slot[..6]),
        ends: Micros::new(number_in(&slot[6..])),
    })
}
