//! The lines of several record files in the store's order, read as a stream.
//!
//! A file's lines are nearly in that order, since a node writes them as it receives verdicts. So a
//! window of lines is sorted, and of several files the one that is behind is read first. A rotated
//! file is a file like any other. Lines are not parsed here, apart from their time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{BufRead, Read as _};

use serde::Deserialize;

/// The lines among which those that are out of order find their place.
const WINDOW: usize = 65_536;
/// The longest line in bytes.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// An open record.
pub struct RecordSource<R> {
    reader: R,
    /// The order of the newest line, or `None` after the end.
    frontier: Option<(u64, u64)>,
}

impl<R: BufRead> RecordSource<R> {
    /// A record that is read from its current position on.
    pub fn new(reader: R) -> Self {
        Self { reader, frontier: Some((0, 0)) }
    }
}

/// The lines of records.
pub struct MergedLines<R> {
    sources: Vec<RecordSource<R>>,
    window: BinaryHeap<Reverse<OrderedLine>>,
    number: u64,
    bytes: u64,
    unreadable: u64,
}

/// The place of a line in the order of the store, its number in that of reading, and the line.
type OrderedLine = ((u64, u64), u64, String);

/// The time and the position of a line.
#[derive(Deserialize)]
struct Order {
    now_us: u64,
    index: u64,
}

impl<R: BufRead> MergedLines<R> {
    /// The lines of all `sources`.
    #[must_use]
    pub fn new(sources: Vec<RecordSource<R>>) -> Self {
        Self { sources, window: BinaryHeap::new(), number: 0, bytes: 0, unreadable: 0 }
    }

    /// The bytes that have been read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The lines so far that are no lines of a record, or were cut.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Reads a line of the source that is behind; false at the end of all.
    fn read_one(&mut self) -> std::io::Result<bool> {
        let behind = self.sources.iter_mut().filter(|source| source.frontier.is_some());
        let Some(source) = behind.min_by_key(|source| source.frontier) else { return Ok(false) };
        let mut line = Vec::new();
        let mut reader = source.reader.by_ref().take(MAX_LINE_BYTES);
        let len = reader.read_until(b'\n', &mut line)?;
        self.bytes += len as u64;
        if len == 0 {
            source.frontier = None;
            return Ok(true);
        }
        let order = String::from_utf8(line).ok().and_then(|line| Some((order(&line)?, line)));
        match order {
            Some((order, line)) => {
                source.frontier = source.frontier.max(Some(order));
                self.number += 1;
                self.window.push(Reverse((order, self.number, line)));
            }
            None => self.unreadable += 1,
        }
        Ok(true)
    }
}

/// The place of a line in the order of the store.
fn order(line: &str) -> Option<(u64, u64)> {
    // Every release writes these two members first: the rest need not be parsed for them.
    let first = |line: &str| {
        let rest = line.strip_prefix("{\"now_us\":")?;
        let (now, rest) = rest.split_once(",\"index\":")?;
        let (index, _) = rest.split_once(',')?;
        Some((now.parse().ok()?, index.parse().ok()?))
    };
    first(line).or_else(|| {
        let Order { now_us, index } = serde_json::from_str(line).ok()?;
        Some((now_us, index))
    })
}

impl<R: BufRead> Iterator for MergedLines<R> {
    type Item = std::io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.window.len() < WINDOW {
            match self.read_one() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Some(Err(error)),
            }
        }
        self.window.pop().map(|Reverse((_, _, line))| Ok(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(now: u64, index: u64) -> String {
        format!("{{\"now_us\":{now},\"index\":{index},\"lost\":1}}\n")
    }

    #[test]
    fn lines_of_several_files_come_in_the_order_of_the_store() {
        let first = [line(3, 0), line(1, 1), line(1, 0)].concat();
        let rotated = (10..200_000).map(|now| line(now, 0)).collect::<String>();
        let newest = line(200_000, 0) + "{\"now_us\":7";
        let files = [newest.as_bytes(), rotated.as_bytes(), first.as_bytes()];
        let sources = files.into_iter().map(RecordSource::new).collect();
        let mut lines = MergedLines::new(sources);
        let orders: Vec<_> = lines.by_ref().map(|line| order(&line.unwrap()).unwrap()).collect();
        assert!(orders.is_sorted() && orders.len() == 199_994, "{}", orders.len());
        assert_eq!(lines.unreadable(), 1, "the line that was cut");
        assert_eq!(lines.bytes(), files.iter().map(|file| file.len() as u64).sum::<u64>());
    }

    #[test]
    fn members_in_another_order_are_read_too() {
        assert_eq!(order("{ \"index\": 2, \"lost\": 1, \"now_us\": 1 }"), Some((1, 2)));
        assert_eq!(order("{\"now_us\":x,\"index\":1,"), None);
    }
}
