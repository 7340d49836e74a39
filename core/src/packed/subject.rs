//! A subject's string: a header, and the packed rows of its counters, as `lua/subject.lua` defines
//! them; and its deadline, as `lua/store.lua` does.
//!
//! The meaning of a row's body is its algorithm's.

use std::ops::Range;

use smallvec::SmallVec;

use super::charge::{PackedLimit, Sizes};
use super::damage::Damage;
use super::{KeyWrite, StoredValue};
use crate::algorithm::calendar_quota::Count;
use crate::algorithm::token_bucket::Bucket;
use crate::algorithm::{Row, RowKind, number_in, slots};
use crate::judge::ReservationNumbers;
use crate::limit::RowId;
use crate::time::{MAX_EXACT, Micros};

/// The format of the string.
const FORMAT: u8 = 2;
/// Bytes of the header: the format, and the deadline in seconds since 1970.
const HEADER: usize = 5;
/// Bytes of a row's head.
const HEAD: usize = RowId::LEN;
/// The grid of deadlines, in seconds: most writes leave the deadline alone.
const GRID_SECS: u64 = 64;
/// The time for which a quota's row is kept: no window is longer than a leap year and the time zones.
const LONGEST_WINDOW_SECS: u64 = 368 * 86_400;

/// The bytes of a string; most have a throttle and a quota.
type Bytes = SmallVec<[u8; 96]>;

/// The value under a subject's key.
pub struct SubjectString {
    stored: Stored,
    /// The time until which the rows written in this call matter; `None` if none was written.
    needed: Option<Micros>,
}

enum Stored {
    Missing,
    OtherType,
    Rows(Bytes),
}

impl From<StoredValue<'_>> for SubjectString {
    fn from(value: StoredValue<'_>) -> Self {
        let stored = match value {
            StoredValue::Missing => Stored::Missing,
            StoredValue::OtherType => Stored::OtherType,
            StoredValue::String(bytes) => Stored::Rows(Bytes::from_slice(bytes)),
        };
        Self { stored, needed: None }
    }
}

impl SubjectString {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.stored, Stored::Missing)
    }

    fn bytes(&self) -> &[u8] {
        match &self.stored {
            Stored::Rows(bytes) => bytes,
            Stored::Missing | Stored::OtherType => &[],
        }
    }

    /// The row of a limit's counter. A string is walked over whole before a row counts as missing,
    /// and if a row's numbers are unusual.
    pub(super) fn row(&self, limit: &PackedLimit, now: Micros) -> Result<Option<Row>, Damage> {
        let bytes = match &self.stored {
            Stored::Missing => return Ok(None),
            Stored::OtherType => return Err(Damage::OtherType),
            Stored::Rows(bytes) => bytes,
        };
        let Some(body) = find(bytes, limit.id)? else { return Ok(None) };
        let row = Row::new(limit.id.kind(), bytes.get(body).unwrap_or_default());
        if let Some(row) = &row
            && !has_usual_numbers(bytes, row, limit, now)?
        {
            check_lengths(bytes)?;
        }
        Ok(row)
    }

    /// Replaces a row, or appends it.
    pub(super) fn write_row(&mut self, id: RowId, body: &[u8], until: Micros) {
        self.needed = Some(self.needed.map_or(until, |needed| needed.max(until)));
        if self.is_missing() {
            self.stored = Stored::Rows(Bytes::from_slice(&[FORMAT, 0, 0, 0, 0]));
        }
        let Stored::Rows(bytes) = &mut self.stored else { return };
        if let Ok(Some(place)) = find(bytes, id) {
            bytes[place].copy_from_slice(body);
            return;
        }
        if id.kind().counts_slots() {
            // Slots stand behind their row, and those of a row that is lost mean nothing.
            let slots = annex_place(bytes, id);
            replace(bytes, slots, &[]);
        }
        push_row(bytes, id, body);
    }

    /// The annex of a counter; empty if it has none. Without its row, slots mean nothing.
    pub(super) fn annex(&self, id: RowId) -> Vec<u8> {
        let bytes = self.bytes();
        if id.kind().counts_slots() && !matches!(find(bytes, id), Ok(Some(_))) {
            return Vec::new();
        }
        bodies(&bytes[annex_place(bytes, id)]).flatten().copied().collect()
    }

    /// Replaces the annex of a counter whose row is written; an empty one is removed.
    pub(super) fn write_annex(&mut self, id: RowId, annex: &[u8]) {
        let Stored::Rows(bytes) = &mut self.stored else { return };
        let (place, annex_id) = (annex_place(bytes, id), id.with_kind(id.kind().annex()));
        let mut part = Bytes::new();
        if id.kind().counts_slots() {
            let row = find(bytes, id).ok().flatten();
            let Some(row) = row.and_then(|body| Row::new(id.kind(), &bytes[body])) else { return };
            let mut rest = annex;
            for len in slots::row_lengths(bodies(&bytes[place.clone()]), &row, annex) {
                let (slots, behind) = rest.split_at(len);
                push_row(&mut part, annex_id, slots);
                rest = behind;
            }
        } else if !annex.is_empty() {
            push_row(&mut part, annex_id, annex);
        }
        replace(bytes, place, &part);
    }

    /// The numbers of the subject's reservations.
    pub(super) fn numbers(&self) -> Result<Option<ReservationNumbers>, Damage> {
        let bytes = match &self.stored {
            Stored::Missing => return Ok(None),
            Stored::OtherType => return Err(Damage::OtherType),
            Stored::Rows(bytes) => bytes,
        };
        let body = find(bytes, RowId::RESERVATION_NUMBERS)?;
        Ok(body.and_then(|body| {
            let (last, rest) = bytes[body].split_first_chunk::<6>()?;
            let (birth, until) = rest.split_first_chunk()?;
            let until = Micros::from_secs(number_in(until));
            Some(ReservationNumbers { last: number_in(last), birth: *birth, until })
        }))
    }

    /// Replaces the numbers of the subject's reservations.
    pub(super) fn write_numbers(&mut self, numbers: ReservationNumbers) {
        let ReservationNumbers { last, birth, until } = numbers;
        let mut body = [0; 19];
        body[..6].copy_from_slice(&last.to_le_bytes()[..6]);
        body[6..14].copy_from_slice(&birth);
        body[14..].copy_from_slice(&(until.get() / 1_000_000).to_le_bytes()[..5]);
        self.write_row(RowId::RESERVATION_NUMBERS, &body, until);
    }

    /// The string to store at the end of a call, if it has changed. A key lives at least until its
    /// rows no longer matter; its deadline lies one to two steps of a grid ahead and is never brought
    /// forward. With a new deadline, rows are dropped that no longer matter.
    pub fn to_write(&mut self, now: Micros) -> Option<KeyWrite<'_>> {
        let needed = self.needed?;
        let Stored::Rows(bytes) = &mut self.stored else { return None };
        let mut deadline = [0; 4];
        deadline.copy_from_slice(bytes.get(1..HEADER)?);
        if needed < Micros::from_secs(u32::from_le_bytes(deadline).into()) {
            return Some(KeyWrite::Set { value: bytes, expires_at_ms: None });
        }
        let deadline = (needed.get() / 1_000_000 / GRID_SECS + 2) * GRID_SECS;
        drop_expired(bytes, now);
        // After 2106 the deadline does not fit into the header, and is set more often.
        let header = u32::try_from(deadline).unwrap_or(u32::MAX);
        bytes[1..HEADER].copy_from_slice(&header.to_le_bytes());
        Some(KeyWrite::Set { value: bytes, expires_at_ms: Some(deadline * 1_000) })
    }
}

fn push_row(bytes: &mut Bytes, id: RowId, body: &[u8]) {
    let len = u8::try_from(body.len()).unwrap_or(u8::MAX);
    bytes.push(len);
    bytes.extend_from_slice(&id.to_bytes()[1..]);
    bytes.extend_from_slice(body);
}

/// Replaces a part of a string.
fn replace(bytes: &mut Bytes, place: Range<usize>, part: &[u8]) {
    if place.len() == part.len() {
        bytes[place].copy_from_slice(part);
        return;
    }
    let behind = Bytes::from_slice(&bytes[place.end..]);
    bytes.truncate(place.start);
    bytes.extend_from_slice(part);
    bytes.extend_from_slice(&behind);
}

/// The bodies of rows that stand one behind the other.
fn bodies(mut rows: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = HEAD + usize::from(*rows.first()?);
        let (row, behind) = rows.split_at_checked(len)?;
        rows = behind;
        row.get(HEAD..)
    })
}

/// The place of a counter's annex, or that of a new one if it has none. Slots stand in several rows
/// behind their counter's, any other annex in one row before it.
fn annex_place(bytes: &[u8], id: RowId) -> Range<usize> {
    let (annex_id, is_list) = (id.with_kind(id.kind().annex()), id.kind().counts_slots());
    let mut annex: Option<Range<usize>> = None;
    for (other, body) in rows(bytes) {
        let row = body.start - HEAD..body.end;
        match annex.as_mut().filter(|_| is_list) {
            Some(list) if other == annex_id => list.end = row.end,
            Some(_) => break,
            None if other == annex_id => annex = Some(row),
            None if other == id && !is_list => return annex.unwrap_or(row.start..row.start),
            None => {}
        }
    }
    annex.unwrap_or(bytes.len()..bytes.len())
}

/// The ids and bodies of the rows in a string, up to a row that is cut short.
fn rows(bytes: &[u8]) -> impl Iterator<Item = (RowId, Range<usize>)> {
    let mut at = HEADER;
    std::iter::from_fn(move || {
        let (head, rest) = bytes.get(at..)?.split_first_chunk()?;
        let (id, len) = RowId::from_head(*head);
        rest.get(..len)?;
        let body = at + HEAD..at + HEAD + len;
        at = body.end;
        Some((id, body))
    })
}

/// The place of a row's body.
fn find(bytes: &[u8], id: RowId) -> Result<Option<Range<usize>>, Damage> {
    if bytes.first() != Some(&FORMAT) {
        return Err(Damage::Format(bytes.first().copied()));
    }
    let mut at = HEADER;
    while at < bytes.len() {
        let head = bytes.get(at..).and_then(<[u8]>::split_first_chunk);
        let (head, rest) = head.ok_or(Damage::CutShort)?;
        let (other, len) = RowId::from_head(*head);
        if other == id {
            let is_whole = id.kind().body_len() == Some(len) && len <= rest.len();
            let body = at + HEAD..at + HEAD + len;
            return if is_whole { Ok(Some(body)) } else { Err(Damage::Length(head[0])) };
        }
        at += HEAD + if head[HEAD - 1] < 1 << 5 { len } else { rounded_len(*head) };
    }
    check_lengths(bytes).map(|()| None)
}

/// The length in a head of more than 53 bits, which no row has unless stray bytes have shifted it: the
/// script reads a head as a double, and walks on by what that rounds it to.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the same double as in Lua"
)]
fn rounded_len(head: [u8; HEAD]) -> usize {
    usize::from((number_in(&head) as f64) as u64 as u8)
}

/// Checks that all rows of counters have the lengths of their kinds, and that the last row ends with
/// the string.
fn check_lengths(bytes: &[u8]) -> Result<(), Damage> {
    let mut end = HEADER;
    for (id, body) in rows(bytes) {
        let (kind, len) = (id.kind(), body.len());
        let is_counter = kind.is_known_counter();
        if kind.get() == 0 || is_counter && kind.body_len() != Some(len) {
            return Err(Damage::Length(u8::try_from(len).unwrap_or(u8::MAX)));
        }
        end = body.end;
    }
    if end == bytes.len() { Ok(()) } else { Err(Damage::CutShort) }
}

/// False if a row's numbers could be those of a row that stray or missing bytes have shifted.
/// Those of slots tell nothing, so the string has to end with a row.
fn has_usual_numbers(
    bytes: &[u8],
    row: &Row,
    limit: &PackedLimit,
    now: Micros,
) -> Result<bool, Damage> {
    match &limit.sizes {
        Sizes::Bucket(throttle) => {
            if row.number::<7>(0) > MAX_EXACT {
                return Err(Damage::Huge);
            }
            let bucket = Bucket::from_row(row).ok_or(Damage::NoRate)?;
            Ok(bucket.per == throttle.per())
        }
        Sizes::Quota(_) => {
            let current = limit.windows.and_then(|windows| windows.window_at(now));
            // Outside the windows the row is not read.
            let Some(((current, _), count)) = current.zip(Count::from_row(row)) else {
                return Ok(true);
            };
            if count.used.unsigned_abs() > MAX_EXACT {
                return Err(Damage::Huge);
            }
            Ok(count.window == current)
        }
        // The rows of a list are looked for up to the end.
        Sizes::Slots(_) if last_end(bytes) < bytes.len() => Err(Damage::CutShort),
        Sizes::Slots(_) => Ok(true),
    }
}

/// The end of the last whole row.
fn last_end(bytes: &[u8]) -> usize {
    rows(bytes).last().map_or(HEADER, |(_, body)| body.end)
}

/// Drops the rows that no longer matter. Rows of unknown kinds are kept, and damaged strings stay as
/// they are: only the checks that read them fail.
fn drop_expired(bytes: &mut Bytes, now: Micros) {
    if check_lengths(bytes).is_err() {
        return;
    }
    let is_numbered = rows(bytes)
        .find(|(id, _)| *id == RowId::RESERVATION_NUMBERS)
        .is_some_and(|(_, body)| numbers_matter(&bytes[body], now));
    let mut kept = Bytes::from_slice(&bytes[..HEADER]);
    for (id, body) in rows(bytes) {
        if matters(id, &bytes[body.clone()], is_numbered, now) {
            kept.extend_from_slice(&bytes[body.start - HEAD..body.end]);
        }
    }
    if kept.len() < bytes.len() {
        *bytes = kept;
    }
}

/// True if the numbers of a subject's reservations matter: their last five bytes are the time until
/// which they do, in seconds.
fn numbers_matter(body: &[u8], now: Micros) -> bool {
    let until = body.last_chunk::<5>().map_or(0, |last| number_in(last));
    Micros::from_secs(until) >= now
}

/// False if a missing row would mean the same.
fn matters(id: RowId, body: &[u8], is_numbered: bool, now: Micros) -> bool {
    let row = || Row::new(id.kind(), body);
    match id.kind() {
        RowKind::TOKEN_BUCKET => row().as_ref().and_then(Bucket::from_row).is_none_or(|bucket| {
            let passed = now.since(bucket.updated_at).get();
            bucket.level > passed.saturating_mul(bucket.drain)
        }),
        RowKind::CALENDAR_QUOTA => row()
            .as_ref()
            .and_then(Count::from_row)
            .is_none_or(|count| Micros::from_secs(count.window.get() + LONGEST_WINDOW_SECS) >= now),
        RowKind::CONCURRENCY | RowKind::RESERVATION_NUMBERS => is_numbered,
        kind if kind.is_annex() => is_numbered,
        _ => true,
    }
}
