//! The frequent keys of one limit in bounded memory: a summary of Misra and Gries, which has the
//! bound of space-saving and can be merged.
//!
//! With a capacity of K, each count is too low by at most N / (K + 1), where N is the sum of all
//! that was counted, and never too high; a key that has more than that is in the summary. While a
//! summary has had at most 4 K keys, its counts are exact. Time is not known here.

use foldhash::HashMap;

use crate::engine::key_names::KeyName;

/// The measures that are counted: refused checks, and units used.
pub(super) const MEASURES: usize = 2;
/// The place of refused checks among the measures.
pub(super) const REFUSED: usize = 0;
/// The place of used units among the measures.
pub(super) const USED: usize = 1;

/// The counts of one key.
#[derive(Clone, Debug)]
pub(super) struct KeyCounts {
    pub(super) name: KeyName,
    pub(super) counts: [u64; MEASURES],
}

/// A summary; empty ones take no memory.
#[derive(Debug)]
pub(super) struct FrequentKeys {
    capacity: usize,
    /// The keys by 64 bits of the digest of their subjects.
    keys: Vec<(u64, KeyCounts)>,
    /// The places of keys.
    places: HashMap<u64, usize>,
    /// The place of the key that was counted last: a hot key is found without a lookup.
    latest: usize,
}

impl FrequentKeys {
    /// An empty summary for the `capacity` largest counts of each measure; at least 1.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, keys: Vec::new(), places: HashMap::default(), latest: 0 }
    }

    /// Counts for a key; it is named when it is new to the summary.
    #[inline]
    pub(super) fn add(
        &mut self,
        digest: u64,
        added: [u64; MEASURES],
        name: impl FnOnce() -> KeyName,
    ) {
        let is_latest = self.keys.get(self.latest).is_some_and(|(latest, _)| *latest == digest);
        if !is_latest {
            let count = self.keys.len();
            self.latest = *self.places.entry(digest).or_insert(count);
            if self.latest == count {
                self.keys.push((digest, KeyCounts { name: name(), counts: [0; MEASURES] }));
            }
        }
        if let Some((_, known)) = self.keys.get_mut(self.latest) {
            for (count, added) in known.counts.iter_mut().zip(added) {
                *count = count.saturating_add(added);
            }
        }
        if self.keys.len() > 4 * self.capacity {
            self.reduce();
        }
    }

    /// Counts all that another summary has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        for (digest, known) in &other.keys {
            self.add(*digest, known.counts, || known.name.clone());
        }
    }

    /// Leaves at most `capacity` counts of each measure, and the memory that they need.
    pub(super) fn prune(&mut self) {
        self.reduce();
        self.keys.shrink_to_fit();
        self.places.shrink_to_fit();
    }

    /// Leaves at most `capacity` counts of each measure, and so at most twice as many keys. The
    /// tables keep their sizes.
    ///
    /// The largest count that has no place is subtracted from all. At least K + 1 counts lose as
    /// much each time, so all that a key loses is at most N / (K + 1).
    fn reduce(&mut self) {
        let least: [u64; MEASURES] = std::array::from_fn(|measure| {
            let counts = self.keys.iter().map(|(_, known)| known.counts[measure]);
            let mut counts: Vec<u64> = counts.filter(|count| *count > 0).collect();
            if counts.len() <= self.capacity {
                return 0;
            }
            *counts.select_nth_unstable_by(self.capacity, |one, other| other.cmp(one)).1
        });
        self.keys.retain_mut(|(_, known)| {
            for (count, least) in known.counts.iter_mut().zip(least) {
                *count = count.saturating_sub(least);
            }
            known.counts != [0; MEASURES]
        });
        self.places.clear();
        let places = self.keys.iter().enumerate().map(|(place, (digest, _))| (*digest, place));
        self.places.extend(places);
    }

    /// The counts of all keys, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &KeyCounts)> {
        self.keys.iter().map(|(digest, known)| (*digest, known))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn summary(capacity: usize, stream: &[(u64, [u64; MEASURES])]) -> FrequentKeys {
        let mut summary = FrequentKeys::new(capacity);
        for &(key, added) in stream {
            summary.add(key, added, || KeyName::Nobody);
        }
        summary
    }

    fn counted(summary: &FrequentKeys, key: u64, measure: usize) -> u64 {
        summary.iter().find(|(digest, _)| *digest == key).map_or(0, |(_, it)| it.counts[measure])
    }

    proptest! {
        #[test]
        fn no_count_is_too_high_and_none_is_too_low_by_more_than_n_over_k(
            capacity in 1..12_usize,
            streams in vec(vec((0..80_u64, [0..3_u64, 0..200_u64]), 0..400), 1..5),
        ) {
            // Each stream is a worker's second; the node merges them, some with a pruned slice.
            let mut merged = FrequentKeys::new(capacity);
            for (place, stream) in streams.iter().enumerate() {
                merged.merge(&summary(capacity, stream));
                if place % 2 == 0 {
                    merged.prune();
                }
            }
            merged.prune();
            for measure in 0..MEASURES {
                let all = || streams.iter().flatten();
                let total: u64 = all().map(|(_, added)| added[measure]).sum();
                for key in 0..80 {
                    let exact = all().filter(|(other, _)| *other == key);
                    let exact: u64 = exact.map(|(_, added)| added[measure]).sum();
                    let counted = counted(&merged, key, measure);
                    prop_assert!(counted <= exact);
                    prop_assert!(exact - counted <= total / (capacity as u64 + 1));
                }
                let kept = merged.iter().filter(|(_, it)| it.counts[measure] > 0).count();
                prop_assert!(kept <= capacity);
            }
        }

        #[test]
        fn a_summary_of_few_keys_is_exact(stream in vec((0..20_u64, [0..3_u64, 0..200_u64]), 0..300)) {
            let summary = summary(5, &stream);
            for key in 0..20 {
                for measure in 0..MEASURES {
                    let of_key = stream.iter().filter(|(other, _)| *other == key);
                    let exact: u64 = of_key.map(|(_, added)| added[measure]).sum();
                    prop_assert_eq!(counted(&summary, key, measure), exact);
                }
            }
        }
    }

    #[test]
    fn a_flood_of_keys_takes_bounded_memory() {
        let mut summary = FrequentKeys::new(10);
        for key in 0..100_000 {
            summary.add(key, [1, 1], || KeyName::Nobody);
            assert!(summary.keys.len() <= 40);
        }
    }
}
