//! The last minute and the last hour of one node: summaries of ten seconds and of ten minutes each,
//! by limit.
//!
//! A window is six slices with the current one, so it covers between five sixths of its length and
//! all of it. The clock is the caller's.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use super::frequent::{FrequentKeys, KeyCounts, REFUSED, USED};
use super::rows::{TopCounts, TopRow};
use crate::engine::key_names::KeyName;
use crate::limit::Unit;

/// The most limits that a node keeps summaries of.
pub(super) const MAX_LIMITS: usize = 256;
/// The number of slices of a window.
const SLICES: usize = 6;
/// The lengths of slices of the minute and of the hour, in seconds.
const SLICE_SECS: [u64; 2] = [10, 600];

/// The summaries of all limits of a node.
pub(super) struct Windows {
    capacity: usize,
    limits: HashMap<Arc<str>, LimitWindows>,
}

/// The minute and the hour of one limit.
struct LimitWindows {
    unit: Unit,
    windows: [VecDeque<Slice>; 2],
}

/// The summary of a part of a window.
struct Slice {
    /// The time of its beginning, in lengths of slices.
    number: u64,
    keys: FrequentKeys,
}

impl Windows {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, limits: HashMap::new() }
    }

    /// Counts what a worker has counted until `now`, in seconds of any clock. Beyond
    /// [`MAX_LIMITS`], further limits have to wait until one has had no check for an hour.
    pub(super) fn merge(&mut self, now: u64, limit: &Arc<str>, unit: &Unit, keys: &FrequentKeys) {
        if !self.limits.contains_key(limit) {
            if self.limits.len() >= MAX_LIMITS {
                return;
            }
            let windows = LimitWindows { unit: unit.clone(), windows: Default::default() };
            self.limits.insert(Arc::clone(limit), windows);
        }
        let Some(limit) = self.limits.get_mut(limit) else { return };
        for (window, secs) in limit.windows.iter_mut().zip(SLICE_SECS) {
            let number = now / secs;
            if window.back().is_none_or(|slice| slice.number != number) {
                // The last one is complete now.
                window.back_mut().into_iter().for_each(|slice| slice.keys.prune());
                window.push_back(Slice { number, keys: FrequentKeys::new(self.capacity) });
            }
            window.back_mut().into_iter().for_each(|slice| slice.keys.merge(keys));
        }
    }

    /// Drops the slices that have left their window.
    pub(super) fn expire(&mut self, now: u64) {
        self.limits.retain(|_, limit| {
            for (window, secs) in limit.windows.iter_mut().zip(SLICE_SECS) {
                let is_over = |slice: &Slice| slice.number + SLICES as u64 <= now / secs;
                while window.front().is_some_and(is_over) {
                    window.pop_front();
                }
            }
            limit.windows.iter().any(|window| !window.is_empty())
        });
    }

    /// The counts of all limits, in no order.
    pub(super) fn rows(&self) -> Vec<TopRow> {
        let mut rows = Vec::new();
        for (label, limit) in &self.limits {
            let [minute, hour] = limit.windows.each_ref().map(|window| self.sum(window));
            let mut joined: HashMap<u64, (&KeyName, [TopCounts; 2])> = HashMap::new();
            for (place, keys) in [&minute, &hour].into_iter().enumerate() {
                for (digest, KeyCounts { name, counts }) in keys.iter() {
                    let (_, both) = joined.entry(digest).or_insert((name, Default::default()));
                    both[place] = TopCounts { refused: counts[REFUSED], used: counts[USED] };
                }
            }
            rows.extend(
                joined
                    .into_values()
                    .map(|(name, counts)| TopRow::new(label, limit.unit.as_str(), name, counts)),
            );
        }
        rows
    }

    fn sum(&self, window: &VecDeque<Slice>) -> FrequentKeys {
        let mut sum = FrequentKeys::new(self.capacity);
        for slice in window {
            sum.merge(&slice.keys);
        }
        sum.prune();
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(windows: &Windows) -> Vec<[u64; 2]> {
        windows.rows().iter().map(|row| [row.minute.refused, row.hour.refused]).collect()
    }

    fn refuse(windows: &mut Windows, now: u64, limit: &str, count: u64) {
        let mut keys = FrequentKeys::new(10);
        keys.add(1, [count, 0], || KeyName::Nobody);
        windows.expire(now);
        windows.merge(now, &limit.into(), &Unit::requests(), &keys);
    }

    #[test]
    fn a_refusal_is_in_the_minute_for_a_minute_and_in_the_hour_for_an_hour() {
        let mut windows = Windows::new(10);
        refuse(&mut windows, 6_000, "a", 3);
        refuse(&mut windows, 6_009, "a", 4);
        assert_eq!(counted(&windows), [[7, 7]]);
        refuse(&mut windows, 6_059, "a", 1);
        assert_eq!(counted(&windows), [[8, 8]]);
        windows.expire(6_060);
        assert_eq!(counted(&windows), [[1, 8]]);
        windows.expire(6_110);
        assert_eq!(counted(&windows), [[0, 8]]);
        windows.expire(9_599);
        assert_eq!(counted(&windows), [[0, 8]]);
        windows.expire(9_600);
        assert!(windows.rows().is_empty() && windows.limits.is_empty());
    }

    #[test]
    fn a_node_keeps_a_bounded_number_of_limits_and_forgets_idle_ones() {
        let mut windows = Windows::new(10);
        for number in 0..MAX_LIMITS + 10 {
            refuse(&mut windows, 0, &number.to_string(), 1);
        }
        assert_eq!(windows.limits.len(), MAX_LIMITS);
        refuse(&mut windows, 3_600, "another", 1);
        assert_eq!(windows.limits.len(), 1);
    }
}
