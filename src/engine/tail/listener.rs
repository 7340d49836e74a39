//! One listener: the decisions that it wants, at which rate, and the queue of those it has not read.
//!
//! Workers only touch atomics and the queue, and neither makes them wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::mpsc;

use super::event::TailEvent;
use super::{Tail, Watched};
use crate::engine::observer::DecidedCheck;
use crate::telemetry::DecisionOutcome;
use crate::time::boot_clock;

/// The most events that wait to be read.
const QUEUE: usize = 256;
/// The slots of a second among which the events of a large rate are spread.
const SLOTS: u32 = 10;
/// The bits of the count within a slot.
const COUNT_BITS: u32 = 24;

/// The decisions that a listener wants. Without any condition: all refusals.
#[derive(Debug, Default)]
pub struct TailFilter {
    /// All decisions, not only refusals.
    pub all: bool,
    /// Only this outcome, whether it is a refusal or not.
    pub outcome: Option<DecisionOutcome>,
    /// Only this plan.
    pub plan: Option<Box<str>>,
    /// Only this API key, by its id, or this key of a policy as the request has it.
    pub key: Option<Box<str>>,
    /// Only refusals of this limit, by its name in the catalog, and admitted checks that it judged.
    pub limit: Option<Box<str>>,
}

impl TailFilter {
    fn watched(&self) -> Watched {
        match self.outcome {
            None if !self.all => Watched::Refusals,
            Some(outcome) if outcome.is_refusal() => Watched::Refusals,
            _ => Watched::Everything,
        }
    }

    fn selects(&self, check: &DecidedCheck<'_>) -> bool {
        let Self { all, outcome, plan, key, limit } = self;
        let is_outcome = match outcome {
            Some(outcome) => *outcome == check.outcome,
            None => *all || check.outcome.is_refusal(),
        };
        is_outcome
            && plan.as_ref().is_none_or(|plan| check.decision.plan.as_deref() == Some(plan))
            && key.as_ref().is_none_or(|key| is_of_key(check, key))
            && limit.as_ref().is_none_or(|limit| match check.refusing {
                Some(refusing) => **refusing == **limit,
                None => check.charges.iter().any(|charge| **charge.limit.label() == **limit),
            })
    }
}

fn is_of_key(check: &DecidedCheck<'_>, key: &str) -> bool {
    let is_client = check.decision.key.as_ref().is_some_and(|client| *client.id == *key);
    let policies = || check.request.map_or(&[][..], |request| request.policies);
    is_client || policies().iter().any(|entry| entry.key == key)
}

/// The events that a listener did not get, since it was last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MissedEvents {
    /// Events above its rate.
    pub sampled_out: u64,
    /// Events that found its queue full.
    pub dropped: u64,
}

/// A listener, as workers see it.
pub(super) struct Listener {
    filter: TailFilter,
    rate: Rate,
    queue: mpsc::Sender<Arc<TailEvent>>,
    sampled_out: AtomicU64,
    dropped: AtomicU64,
}

impl Listener {
    /// A listener, and the end of its queue at which events are read.
    pub(super) fn new(
        filter: TailFilter,
        rate: u32,
    ) -> (Arc<Self>, mpsc::Receiver<Arc<TailEvent>>) {
        let (queue, events) = mpsc::channel(QUEUE);
        let (sampled_out, dropped) = Default::default();
        let listener = Self { filter, rate: Rate::new(rate), queue, sampled_out, dropped };
        (Arc::new(listener), events)
    }

    pub(super) fn watched(&self) -> Watched {
        self.filter.watched()
    }

    /// True if the listener wants a decision, and has not had as many in this second as it may.
    pub(super) fn wants(&self, check: &DecidedCheck<'_>) -> bool {
        if !self.filter.selects(check) {
            return false;
        }
        let has_turn = self.rate.take(boot_clock().as_millis());
        if !has_turn {
            self.sampled_out.fetch_add(1, Relaxed);
        }
        has_turn
    }

    pub(super) fn offer(&self, event: Arc<TailEvent>) {
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// A rate of events. From ten a second on, each tenth of a second has its own share, so that the
/// sample is of the whole second.
struct Rate {
    slot_ms: u32,
    events_in_slot: u64,
    /// The number of the current slot, above [`COUNT_BITS`] with the events in it.
    current: AtomicU64,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let slots = if per_second < SLOTS { 1 } else { SLOTS };
        let current = AtomicU64::new(0);
        Self { slot_ms: 1_000 / slots, events_in_slot: u64::from(per_second / slots), current }
    }

    /// True if one more event fits at `now`, in milliseconds.
    fn take(&self, now: u128) -> bool {
        let slot = u64::try_from(now / u128::from(self.slot_ms)).unwrap_or_default() << COUNT_BITS;
        let current = self.current.load(Relaxed);
        let next = current.max(slot) + 1;
        let count = next & ((1 << COUNT_BITS) - 1);
        // A worker that loses a race leaves its event out.
        count <= self.events_in_slot
            && self.current.compare_exchange(current, next, Relaxed, Relaxed).is_ok()
    }
}

/// The reader's end of a listener; dropping it ends the subscription.
pub struct TailSubscription {
    tail: Arc<Tail>,
    listener: Arc<Listener>,
    events: mpsc::Receiver<Arc<TailEvent>>,
}

impl TailSubscription {
    pub(super) fn new(
        tail: Arc<Tail>,
        listener: Arc<Listener>,
        events: mpsc::Receiver<Arc<TailEvent>>,
    ) -> Self {
        Self { tail, listener, events }
    }

    /// Waits for an event, and returns all that have arrived. Cancelling it loses none.
    pub async fn read(&mut self) -> Vec<Arc<TailEvent>> {
        let mut events = Vec::new();
        self.events.recv_many(&mut events, QUEUE).await;
        events
    }

    /// Returns what was missed since the last call.
    #[must_use]
    pub fn take_missed(&self) -> MissedEvents {
        let Listener { sampled_out, dropped, .. } = &*self.listener;
        MissedEvents {
            sampled_out: sampled_out.swap(0, Relaxed),
            dropped: dropped.swap(0, Relaxed),
        }
    }
}

impl Drop for TailSubscription {
    fn drop(&mut self) {
        self.tail.unsubscribe(&self.listener);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rate: &Rate, from: u128, to: u128) -> usize {
        (from..to).flat_map(|now| [now; 50]).filter(|&now| rate.take(now)).count()
    }

    #[test]
    fn a_small_rate_is_per_second_and_a_larger_one_is_spread_over_it() {
        let three = Rate::new(3);
        assert_eq!([0, 1_000, 2_000].map(|from| taken(&three, from, from + 1_000)), [3; 3]);
        let hundred = Rate::new(100);
        assert_eq!([5_000, 5_100, 5_900].map(|from| taken(&hundred, from, from + 100)), [10; 3]);
        assert_eq!(taken(&hundred, 7_000, 8_000), 100);
    }
}
