//! The differences between samples of the metrics: in detail for the last minute, as totals for the
//! last quarter of an hour.
//!
//! Slots begin at multiples of five seconds of the system's clock, so those of several nodes can be
//! added up. A slot without a sample, as while the machine slept, is one without checks.

use std::collections::{BTreeMap, VecDeque};

use crate::telemetry::MetricsSample;

/// The length of a slot in seconds.
pub(super) const SLOT_SECS: u64 = 5;
/// The slots in the last minute.
const MINUTE_SLOTS: u64 = 12;
/// The slots of the history: 15 minutes.
pub(super) const HISTORY_SLOTS: u64 = 180;

/// The checks of a slot: those admitted by their limits, those refused, and those that were decided
/// without the store, by the failure policy.
pub(super) type SlotTotals = [u64; 3];

/// The outcomes by their part of the totals; shadow limits are counted beside their check.
fn part_of(outcome: &str) -> Option<usize> {
    match outcome {
        "allowed" | "reported" => Some(0),
        "refused" | "too_large" => Some(1),
        "shadow_refused" => None,
        _ => Some(2),
    }
}

/// Counts of one slot, or of several added up.
#[derive(Default)]
pub(super) struct SlotCounts {
    /// Checks by plan and outcome.
    pub(super) decisions: BTreeMap<(String, String), u64>,
    /// Checks by duration.
    pub(super) check_durations: Vec<u64>,
    /// Calls to Redis by duration.
    pub(super) store_durations: Vec<u64>,
    /// Calls to Redis that failed.
    pub(super) store_errors: u64,
}

impl SlotCounts {
    fn between(before: &MetricsSample, after: &MetricsSample) -> Self {
        let mut decisions = BTreeMap::new();
        for (labels, count) in &after.decisions {
            let count = count - before.decisions.get(labels).unwrap_or(&0).min(count);
            if count > 0 {
                decisions.insert(labels.clone(), count);
            }
        }
        let durations = |before: &[u64], after: &[u64]| {
            let pairs = after.iter().enumerate();
            pairs.map(|(at, count)| count.saturating_sub(*before.get(at).unwrap_or(&0))).collect()
        };
        Self {
            decisions,
            check_durations: durations(&before.check_durations, &after.check_durations),
            store_durations: durations(&before.store_durations, &after.store_durations),
            store_errors: after.store_errors.saturating_sub(before.store_errors),
        }
    }

    fn totals(&self) -> SlotTotals {
        let mut totals = SlotTotals::default();
        for ((_, outcome), count) in &self.decisions {
            if let Some(total) = part_of(outcome).and_then(|part| totals.get_mut(part)) {
                *total += count;
            }
        }
        totals
    }

    fn add(&mut self, other: &Self) {
        for (labels, count) in &other.decisions {
            *self.decisions.entry(labels.clone()).or_default() += count;
        }
        for (sums, more) in [
            (&mut self.check_durations, &other.check_durations),
            (&mut self.store_durations, &other.store_durations),
        ] {
            sums.resize(more.len().max(sums.len()), 0);
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        self.store_errors += other.store_errors;
    }
}

/// The slots that are kept. Each is named by its end, in slots since 1970.
pub(super) struct Samples {
    last: MetricsSample,
    minute: VecDeque<(u64, SlotCounts)>,
    history: VecDeque<(u64, SlotTotals)>,
}

impl Samples {
    pub(super) fn new(first: MetricsSample) -> Self {
        Self { last: first, minute: VecDeque::new(), history: VecDeque::new() }
    }

    /// Adds the slot that ends at `end`.
    pub(super) fn add(&mut self, end: u64, sample: MetricsSample) {
        let counts = SlotCounts::between(&self.last, &sample);
        self.last = sample;
        // After a step of the clock back, the slots of the future are none.
        self.minute.retain(|(other, _)| *other < end && end - other < MINUTE_SLOTS);
        self.history.retain(|(other, _)| *other < end && end - other < HISTORY_SLOTS);
        self.history.push_back((end, counts.totals()));
        self.minute.push_back((end, counts));
    }

    /// The counts of the last minute, and the seconds that they are of: less after the start.
    pub(super) fn minute(&self) -> (u64, SlotCounts) {
        let mut sum = SlotCounts::default();
        self.minute.iter().for_each(|(_, counts)| sum.add(counts));
        (self.minute.len() as u64 * SLOT_SECS, sum)
    }

    /// The end of the last slot in seconds since 1970, and the totals of the slots up to it, the
    /// oldest first.
    pub(super) fn history(&self) -> (u64, Vec<SlotTotals>) {
        let (Some((first, _)), Some((last, _))) = (self.history.front(), self.history.back())
        else {
            return (0, Vec::new());
        };
        let mut slots = self.history.iter().peekable();
        let totals = (*first..=*last).map(|end| {
            slots.next_if(|(other, _)| *other == end).map_or_else(Default::default, |slot| slot.1)
        });
        (last * SLOT_SECS, totals.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(allowed: u64, refused: u64) -> MetricsSample {
        let count = |outcome: &str, count| (("basic".to_owned(), outcome.to_owned()), count);
        let decisions = [count("allowed", allowed), count("refused", refused)];
        MetricsSample {
            decisions: decisions.into_iter().chain([count("shadow_refused", 9)]).collect(),
            check_durations: vec![allowed, refused],
            ..MetricsSample::default()
        }
    }

    #[test]
    fn a_minute_is_the_sum_of_its_slots_and_a_missing_slot_had_no_checks() {
        let mut samples = Samples::new(sample(10, 0));
        samples.add(100, sample(13, 1));
        samples.add(103, sample(14, 5));
        let (seconds, minute) = samples.minute();
        let count = |outcome: &str| minute.decisions[&("basic".to_owned(), outcome.to_owned())];
        assert_eq!((seconds, count("allowed"), count("refused")), (10, 4, 5));
        assert_eq!(minute.check_durations, [4, 5]);
        let expected = vec![[3, 1, 0], [0; 3], [0; 3], [1, 4, 0]];
        assert_eq!(samples.history(), (103 * SLOT_SECS, expected));
        samples.add(115, sample(14, 5));
        assert_eq!(samples.minute().1.decisions.len(), 0, "both slots are over");
    }

    #[test]
    fn after_a_step_of_the_clock_back_slots_of_the_future_are_dropped() {
        let mut samples = Samples::new(sample(0, 0));
        samples.add(500, sample(5, 0));
        samples.add(100, sample(6, 0));
        assert_eq!(samples.history(), (100 * SLOT_SECS, vec![[1, 0, 0]]));
    }
}
