//! Decisions as they are made, for those who watch: the admin API's stream, and the log.
//!
//! A node tails the decisions of its own workers. While nobody listens, a decision costs one load.
//! Each listener has a filter, a rate and a bounded queue, and what exceeds these is counted, so a
//! check never waits for one who reads slowly. A request that is no check, such as one with an
//! unknown API key, has no decision and is not seen here; nor are dry runs and settlements.

mod event;
mod listener;
mod refusal_log;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::observer::{DecidedCheck, DecisionObserver};
pub use event::TailEvent;
use listener::Listener;
pub use listener::{MissedEvents, TailFilter, TailSubscription};

/// The most clients that listen at a time.
const MAX_LISTENERS: usize = 8;

/// The decisions that anybody listens to.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Watched {
    Nothing,
    Refusals,
    Everything,
}

/// The decisions of one node.
pub struct Tail {
    /// A [`Watched`].
    watched: AtomicU8,
    listeners: ArcSwap<Vec<Arc<Listener>>>,
    /// Held while the listeners change.
    editing: Mutex<()>,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            watched: AtomicU8::new(Watched::Nothing as u8),
            listeners: ArcSwap::default(),
            editing: Mutex::default(),
        }
    }
}

impl Tail {
    /// True if anybody listens.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) != Watched::Nothing as u8
    }

    /// Listens to decisions that `filter` selects, at most `rate` of them a second; `None` if there
    /// are as many listeners as a node has.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, filter: TailFilter, rate: u32) -> Option<TailSubscription> {
        let (listener, events) = Listener::new(filter, rate);
        let is_added = self.edit(|listeners| {
            let has_room = listeners.len() < MAX_LISTENERS;
            if has_room {
                listeners.push(Arc::clone(&listener));
            }
            has_room
        });
        is_added.then(|| TailSubscription::new(Arc::clone(self), listener, events))
    }

    fn unsubscribe(&self, listener: &Arc<Listener>) {
        self.edit(|listeners| listeners.retain(|other| !Arc::ptr_eq(other, listener)));
    }

    fn edit<R>(&self, change: impl FnOnce(&mut Vec<Arc<Listener>>) -> R) -> R {
        let _editing = self.editing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listeners = Vec::clone(&self.listeners.load());
        let result = change(&mut listeners);
        let watched = listeners.iter().map(|listener| listener.watched()).max();
        self.listeners.store(Arc::new(listeners));
        self.watched.store(watched.unwrap_or(Watched::Nothing) as u8, Ordering::Relaxed);
        result
    }

    #[cold]
    fn publish(&self, check: &DecidedCheck<'_>) {
        let mut event = None;
        for listener in self.listeners.load().iter() {
            if listener.wants(check) {
                let event = event.get_or_insert_with(|| Arc::new(TailEvent::new(check)));
                listener.offer(Arc::clone(event));
            }
        }
    }
}

impl DecisionObserver for Tail {
    fn on_decision(&self, check: &DecidedCheck<'_>) {
        let watched = self.watched.load(Ordering::Relaxed);
        if watched == Watched::Nothing as u8
            || watched == Watched::Refusals as u8 && !check.outcome.is_refusal()
        {
            return;
        }
        self.publish(check);
    }
}
