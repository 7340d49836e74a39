//! The keys that are refused most and use most, by limit, in the last minute and the last hour.
//!
//! Each worker counts in summaries of its own, at every decision; the node takes them once a second
//! and keeps the windows. Reservations count as they were estimated. Envoy's descriptors are not
//! counted: they name no key.

mod frequent;
mod rows;
mod windows;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foldhash::HashMap;

use self::frequent::FrequentKeys;
use self::windows::{MAX_LIMITS, Windows};
use super::key_names::key_of;
use super::observer::{DecidedCheck, DecisionObserver};
use crate::judge;
use crate::limit::{Charge, Unit};
use crate::store::{CounterStore, ReportKind, StoreError};
use crate::telemetry::DecisionOutcome;
use crate::time::boot_clock;
use crate::watch::next_tick;
use rows::merge_rows;
pub use rows::{TopCounts, TopOrder, TopRow, largest_rows};

/// The interval at which the summaries of workers are taken.
const COLLECT_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which a node publishes its rows, in intervals of collecting.
const PUBLISH_TICKS: u64 = 3;
/// The time after which what a node has published expires.
const PUBLISHED_FOR: Duration = Duration::from_secs(15);

/// The frequent keys of one node.
pub struct TopKeys {
    capacity: usize,
    workers: Mutex<Vec<Weak<WorkerTop>>>,
    windows: Mutex<Windows>,
}

/// The summaries of one worker since they were last taken.
pub struct WorkerTop {
    capacity: usize,
    limits: Mutex<Limits>,
}

/// Summaries by the address of the limit's label, which each of them keeps alive.
type Limits = HashMap<usize, LimitKeys>;

struct LimitKeys {
    label: Arc<str>,
    unit: Unit,
    keys: FrequentKeys,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TopKeys {
    /// Keeps the `capacity` largest counts of each limit and measure; at least 1.
    #[must_use]
    pub fn new(capacity: usize) -> Arc<Self> {
        let windows = Mutex::new(Windows::new(capacity));
        Arc::new(Self { capacity, workers: Mutex::default(), windows })
    }

    /// The observer of one worker's decisions.
    #[must_use]
    pub fn worker(&self) -> Arc<WorkerTop> {
        let worker = WorkerTop { capacity: self.capacity, limits: Mutex::default() };
        let worker = Arc::new(worker);
        lock(&self.workers).push(Arc::downgrade(&worker));
        worker
    }

    /// Takes what the workers have counted.
    fn collect(&self) {
        let now = boot_clock().as_secs();
        let mut windows = lock(&self.windows);
        windows.expire(now);
        for worker in lock(&self.workers).iter().filter_map(Weak::upgrade) {
            let taken = std::mem::take(&mut *lock(&worker.limits));
            for LimitKeys { label, unit, keys } in taken.values() {
                windows.merge(now, label, unit, keys);
            }
        }
    }

    fn rows(&self) -> Vec<TopRow> {
        lock(&self.windows).rows()
    }

    /// Collects each second, and with Redis publishes the rows for the other nodes. Never returns.
    pub async fn run(self: Arc<Self>, store: CounterStore) {
        let mut ticks = 0;
        loop {
            next_tick(COLLECT_INTERVAL).await;
            self.collect();
            ticks += 1;
            let CounterStore::Redis(redis) = &store else { continue };
            if ticks % PUBLISH_TICKS != 0 {
                continue;
            }
            let rows = self.rows();
            if rows.is_empty() {
                continue;
            }
            let text = rows::encode_rows(rows);
            if let Err(error) = redis.publish_report(ReportKind::Top, &text, PUBLISHED_FOR).await {
                tracing::debug!(%error, "the frequent keys of this node are not published");
            }
        }
    }

    /// The rows of all nodes, without order, and the number of nodes that have any.
    ///
    /// # Errors
    /// If Redis cannot be read: the rows of this node are in [`TopKeys::own_rows`].
    pub async fn rows_of_nodes(
        &self,
        store: &CounterStore,
    ) -> Result<(Vec<TopRow>, usize), StoreError> {
        let mut nodes = vec![self.own_rows()];
        if let CounterStore::Redis(redis) = store {
            let others = redis.reports_of_others(ReportKind::Top).await?;
            nodes.extend(others.iter().filter_map(|text| rows::decode_rows(text)));
        }
        let reporting = nodes.iter().filter(|rows| !rows.is_empty()).count();
        Ok((merge_rows(nodes), reporting))
    }

    /// The rows of this node, without order, up to now.
    #[must_use]
    pub fn own_rows(&self) -> Vec<TopRow> {
        self.collect();
        self.rows()
    }
}

impl WorkerTop {
    /// Counts for the keys of `charges` by one lock.
    fn count<'c>(
        &self,
        check: &'c DecidedCheck<'_>,
        charges: impl Iterator<Item = (&'c Charge, &'c Arc<str>, [u64; 2])>,
    ) {
        let Some(request) = check.request else { return };
        let mut limits = lock(&self.limits);
        for (charge, label, counts) in charges {
            let (digest, name) = key_of(check.decision.key.as_ref(), request, charge);
            let address = Arc::as_ptr(label).addr();
            if let Some(known) = limits.get_mut(&address) {
                known.keys.add(digest, counts, name);
            } else if limits.len() < MAX_LIMITS {
                let mut keys = FrequentKeys::new(self.capacity);
                keys.add(digest, counts, name);
                let (label, unit) = (Arc::clone(label), charge.limit.unit().clone());
                limits.insert(address, LimitKeys { label, unit, keys });
            }
        }
    }
}

impl DecisionObserver for WorkerTop {
    fn on_decision(&self, check: &DecidedCheck<'_>) {
        use DecisionOutcome::{FullClosed, LocalAllowed, LocalRefused, Refused, TooLarge};
        match (check.outcome, check.refusing) {
            (Refused | TooLarge | LocalRefused | FullClosed, Some(label)) => {
                let charge = check.refusing_charge();
                self.count(check, charge.into_iter().map(|charge| (charge, label, [1, 0])));
            }
            (LocalAllowed, _) => {
                let charged = check.charges.iter().filter(|charge| charge.cost > 0);
                self.count(check, charged.filter_map(used));
            }
            _ => {
                let Some(judged) = check.verdict else { return };
                let verdict = &judged.verdict;
                let charges = check.charges.iter().zip(&verdict.states);
                let made = charges
                    .filter(|(charge, state)| judge::is_made(*charge, **state, verdict.allowed));
                self.count(check, made.filter_map(|(charge, _)| used(charge)));
            }
        }
    }
}

/// The units of a charge that was made; meters are no limits.
fn used(charge: &Charge) -> Option<(&Charge, &Arc<str>, [u64; 2])> {
    (!charge.limit.is_meter()).then(|| (charge, charge.limit.label(), [0, charge.cost]))
}
