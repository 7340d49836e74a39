//! Rows of kinds that this release does not know, planted among those of a history: another release
//! may have written them, and they must outlive everything that the scripts do.

use std::collections::HashMap;

use redis::Commands as _;
use tollgate::limit::{RowId, Subject};

/// The place of a planted row: subject, among its days or its counters, position, and length of the
/// body.
pub type Planting = (usize, bool, u8, u8);

/// The first of eight kinds that this release does not use.
const UNKNOWN_KINDS: u8 = 24;
const ROW_HEAD: usize = RowId::LEN;

/// The planted rows by the key of their string, in the order in which they stand there.
#[derive(Default)]
pub struct ForeignRows {
    planted: HashMap<String, Vec<Vec<u8>>>,
    count: u64,
}

impl ForeignRows {
    /// Inserts a row of an unknown kind into a subject's string, if there is one.
    pub fn plant(&mut self, subject: Subject, planting: Planting, redis: &mut redis::Connection) {
        let (_, among_days, position, len) = planting;
        let key = key_of(subject, among_days);
        let Some(bytes) = redis.get::<_, Option<Vec<u8>>>(&key).unwrap() else { return };
        self.count += 1;
        let kind = u64::from(UNKNOWN_KINDS + position % 8);
        let head = u64::from(len) | kind << 8 | self.count << 13;
        let mut row = head.to_le_bytes()[..ROW_HEAD].to_vec();
        row.extend((0..len).map(|at| at ^ position));
        let mut rows = split(&bytes[header(among_days)..]);
        rows.insert(usize::from(position) % (rows.len() + 1), &row);
        let planted = rows.iter().filter(|row| is_foreign(row));
        self.planted.insert(key.clone(), planted.map(|row| row.to_vec()).collect());
        let bytes = [&bytes[..header(among_days)], &rows.concat()].concat();
        let set = redis::cmd("SET").arg(&key).arg(bytes).arg("KEEPTTL").exec(redis);
        set.unwrap();
    }

    /// Finds every planted row unharmed, unless its whole string has expired.
    pub fn check(
        &mut self,
        subjects: impl Iterator<Item = Subject>,
        redis: &mut redis::Connection,
    ) -> Result<(), String> {
        let keys: Vec<(String, bool)> = subjects
            .flat_map(|subject| [false, true].map(|days| (key_of(subject, days), days)))
            .collect();
        let names: Vec<&String> = keys.iter().map(|(key, _)| key).collect();
        let strings: Vec<Option<Vec<u8>>> = redis.mget(names).unwrap();
        for ((key, among_days), bytes) in keys.iter().zip(strings) {
            let Some(bytes) = bytes else {
                self.planted.remove(key);
                continue;
            };
            let rows = split(&bytes[header(*among_days)..]);
            let found: Vec<&[u8]> = rows.into_iter().filter(|row| is_foreign(row)).collect();
            let planted = self.planted.get(key).map(Vec::as_slice).unwrap_or_default();
            if found != planted {
                return Err(format!("{key}: planted {planted:02x?}, found {found:02x?}"));
            }
        }
        Ok(())
    }
}

fn key_of(subject: Subject, among_days: bool) -> String {
    let mut key = String::new();
    if among_days {
        subject.write_usage_key(&mut key);
    } else {
        subject.write_redis_key(&mut key);
    }
    key
}

/// The bytes before the rows: the format, and before counters the deadline.
fn header(among_days: bool) -> usize {
    if among_days { 1 } else { 5 }
}

fn is_foreign(row: &[u8]) -> bool {
    row[1] & 31 >= UNKNOWN_KINDS
}

pub fn split(mut rows: &[u8]) -> Vec<&[u8]> {
    let mut split = Vec::new();
    while !rows.is_empty() {
        let len = ROW_HEAD + usize::from(rows[0]);
        let (row, rest) = rows.split_at(len);
        split.push(row);
        rows = rest;
    }
    split
}
